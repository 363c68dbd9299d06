/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ROPE_BFP_H
#define EDGE_ROPE_BFP_H

#include <stddef.h>
#include <stdint.h>

/* Turns the first heads * head_dim numbers of rows of 1 + size integers (firmware_tools/bfp.py), the first row by the
 * angles of position, each pair (i, i + head_dim / 2); tables [context][head_dim / 2] in 2^-15. */
void edge_rope_bfp(uint32_t position, int32_t *x, const int16_t *cosines, const int16_t *sines, size_t heads,
                   size_t head_dim, size_t size, size_t count);

#endif
