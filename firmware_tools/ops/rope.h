/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ROPE_H
#define EDGE_ROPE_H

#include <stddef.h>
#include <stdint.h>

/* For each of count rows x[stride]: rotates the pairs (i, i + head_dim / 2) of each of its first heads, [heads][head_dim],
 * by the angles of row position, position + 1 … of cosines[][head_dim / 2] and sines. */
void edge_rope_f32(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads, size_t head_dim,
                   size_t stride, size_t count);
/* head_dim is a multiple of 8 */
void edge_rope_f32_dsp(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads,
                       size_t head_dim, size_t stride, size_t count);
void edge_rope_f32_mve(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads,
                       size_t head_dim, size_t stride, size_t count);

#endif
