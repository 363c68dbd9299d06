/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ADD_BFP_H
#define EDGE_ADD_BFP_H

#include <stddef.h>
#include <stdint.h>

/* y = a + b for rows of 1 + size integers (firmware_tools/bfp.py), count of them; y may be a or b. */
void edge_add_bfp(const int32_t *a, const int32_t *b, int32_t *y, size_t size, size_t count);

#endif
