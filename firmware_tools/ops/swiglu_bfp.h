/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SWIGLU_BFP_H
#define EDGE_SWIGLU_BFP_H

#include <stddef.h>
#include <stdint.h>

/* Rows y of 1 + size integers = SiLU(gate) * up of rows of 1 + 2 size, gates first (firmware_tools/bfp.py); y may be
 * gate_up. */
void edge_swiglu_bfp(const int32_t *gate_up, int32_t *y, size_t size, size_t count);

#endif
