/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rope.h"

void edge_rope_f32(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads, size_t head_dim,
                   size_t stride, size_t count) {
    size_t half = head_dim / 2;
    const float *cosine = cosines + position * half, *sine = sines + position * half;
    for (; count--; x += stride, cosine += half, sine += half) {
        float *head = x;
        for (size_t h = 0; h < heads; h++, head += head_dim)
            for (size_t i = 0; i < half; i++) {
                float a = head[i], b = head[i + half];
                head[i] = a * cosine[i] - b * sine[i];
                head[i + half] = b * cosine[i] + a * sine[i];
            }
    }
}
