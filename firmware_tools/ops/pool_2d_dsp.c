/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "pool_2d_window.h"
#include <arm_acle.h>

/* Four channels at a time: SXTAB16 adds two bytes of a word to two halves of another. */
void edge_average_pool_2d_s8_dsp(const int8_t *x, int8_t *y, const edge_pool_2d *shape) {
    const edge_window *w = &shape->window;
    int32_t channels = shape->channels, pitch = w->width * channels;
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * pitch) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++) {
            edge_window_part part = edge_pool_part(w, position);
            const int8_t *corner = x + part.row * pitch + part.column * channels;
            int32_t count = part.rows * part.columns;
            for (int32_t c = 0; c < channels; c += 4, y += 4) {
                int16x2_t even = 0, odd = 0;
                for (int32_t i = 0; i < part.rows; i++) {
                    const int8_t *pixel = corner + i * pitch + c;
                    for (int32_t j = 0; j < part.columns; j++, pixel += channels) {
                        uint32_t word;
                        __builtin_memcpy(&word, pixel, sizeof word);
                        even = __sxtab16(even, (int8x4_t)word);
                        odd = __sxtab16(odd, (int8x4_t)(word >> 8 | word << 24));
                    }
                }
                int32_t sums[4] = {(int16_t)even, (int16_t)odd, even >> 16, odd >> 16};
                for (int32_t i = 0; i < 4; i++)
                    y[i] = (int8_t)edge_clamp(edge_mean(sums[i], count), shape->least, shape->most);
            }
        }
    }
}
