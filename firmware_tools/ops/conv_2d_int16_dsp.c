/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_int16.h"

#include "dots_int16_dsp.h"
#include "requantize_int16.h"

void edge_conv_2d_s16_dsp(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                          const int32_t *scaling, const edge_conv_2d_int16 *shape) {
    const edge_window *w = &shape->window;
    int32_t depth = shape->in_channels, filter = w->kernel_height * w->kernel_width * depth;
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * depth) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++) {
            int32_t top = position / w->out_width * w->stride_height - w->pad_top;
            int32_t left = position % w->out_width * w->stride_width - w->pad_left;
            edge_window_part part = edge_inside(w, top, left);
            const int16_t *corner = x + (part.row * w->width + part.column) * depth;
            const int8_t *taps = weights + 2 * (part.tap_row * w->kernel_width + part.tap_column) * depth;
            int32_t fours = part.columns * depth / 4;
            for (int32_t n = 0; n < shape->out_channels; n += 2, taps += 2 * filter) {
                edge_two_sums sums = {edge_wide(bias + 2 * n), edge_wide(bias + 2 * n + 2)};
                for (int32_t i = 0; i < part.rows; i++)
                    sums = edge_two_dots(sums, corner + i * w->dilation_height * w->width * depth,
                                         taps + 2 * i * w->kernel_width * depth, fours);
                *y++ = edge_clamp_int16(edge_scale_reduced(sums.a, scaling + 2 * n), shape->least, shape->most);
                *y++ = edge_clamp_int16(edge_scale_reduced(sums.b, scaling + 2 * n + 2), shape->least, shape->most);
            }
        }
    }
}
