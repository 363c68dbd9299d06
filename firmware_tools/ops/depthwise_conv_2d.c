/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "depthwise_conv_2d.h"
#include "exp.h"
#include "requantize.h"

/* Adds one tap of all outputs to their sums; pixel and weights are of all channels. */
static inline void edge_add_tap(int32_t *sums, const int8_t *pixel, const int8_t *weights, int32_t zero_point,
                                int32_t channels, int32_t multiplier) {
    if (multiplier == 1) {
        EDGE_ROLLED
        for (int32_t c = 0; c < channels; c++) sums[c] += weights[c] * (pixel[c] - zero_point);
        return;
    }
    for (int32_t c = 0; c < channels; c++) {
        int32_t value = pixel[c] - zero_point;
        for (int32_t m = 0; m < multiplier; m++) *sums++ += *weights++ * value;
    }
}

void edge_depthwise_conv_2d_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                               const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace) {
    const edge_window *w = &shape->window;
    int32_t channels = shape->channels, outputs = shape->outputs, *sums = workspace;
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * channels) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++) {
            edge_window_part part = edge_inside(w, position / w->out_width * w->stride_height - w->pad_top,
                                                position % w->out_width * w->stride_width - w->pad_left);
            for (int32_t n = 0; n < outputs; n++) sums[n] = bias[n];
            for (int32_t i = 0; i < part.rows; i++) {
                const int8_t *row = x + (part.row + i * w->dilation_height) * w->width * channels;
                const int8_t *tap = weights + ((part.tap_row + i) * w->kernel_width + part.tap_column) * outputs;
                for (int32_t j = 0; j < part.columns; j++, tap += outputs)
                    edge_add_tap(sums, row + (part.column + j * w->dilation_width) * channels, tap, shape->zero_point,
                                 channels, outputs / channels);
            }
            for (int32_t n = 0; n < outputs; n++) {
                int32_t scaled = edge_scale_twice_rounded(sums[n], scaling[2 * n], scaling[2 * n + 1]);
                *y++ = (int8_t)edge_clamp(scaled + shape->out_zero_point, shape->least, shape->most);
            }
        }
    }
}
