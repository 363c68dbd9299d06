/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rope.h"

void edge_rope_f32(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads,
                   size_t head_dim) {
    size_t half = head_dim / 2;
    const float *cosine = cosines + position * half, *sine = sines + position * half;
    for (size_t h = 0; h < heads; h++, x += head_dim)
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cosine[i] - b * sine[i];
            x[i + half] = b * cosine[i] + a * sine[i];
        }
}
