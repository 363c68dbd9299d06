/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rope_bfp.h"

#include "bfp.h"

void edge_rope_bfp(uint32_t position, int32_t *x, const int16_t *cosines, const int16_t *sines, size_t heads,
                   size_t head_dim, size_t size, size_t count) {
    size_t half = head_dim / 2;
    cosines += position * half, sines += position * half;
    for (; count > 0; count--, x += 1 + size, cosines += half, sines += half) {
        int32_t shift = edge_bfp_narrowing(edge_bfp_bits(x + 1, heads * head_dim), EDGE_BFP_FULL);
        int32_t back = EDGE_BFP_FULL - shift; /* not negative: mantissas have at most 30 bits */
        edge_bfp_shift narrow = edge_bfp_shift_of(shift);
        int32_t *head = x + 1;
        for (size_t h = 0; h < heads; h++, head += head_dim)
            EDGE_BFP_ROLLED
            for (size_t i = 0; i < half; i++) {
                int32_t a = edge_bfp_shifted(head[i], narrow), b = edge_bfp_shifted(head[i + half], narrow);
                head[i] = (a * cosines[i] - b * sines[i]) >> back;
                head[i + half] = (b * cosines[i] + a * sines[i]) >> back;
            }
    }
}
