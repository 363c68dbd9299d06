/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_BFP_TO_FLOAT_H
#define EDGE_BFP_TO_FLOAT_H

#include <stddef.h>
#include <stdint.h>

/* Rows of 1 + size integers (firmware_tools/bfp.py) as size floats each; y may begin where x begins. */
void edge_bfp_to_float(const int32_t *x, float *y, size_t size, size_t count);

#endif
