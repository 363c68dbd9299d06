/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "transpose_conv_int16.h"

#include "requantize_int16.h"

/* The sum of one output: taps that see a pixel are a stride apart, and those pixels one back. row, column: of the output,
 * counted from where the first filter begins. */
static int64_t edge_transposed_dot(const int16_t *image, const int8_t *filter, const edge_transpose_conv_int16 *s,
                                   int32_t row, int32_t column) {
    const edge_window *w = &s->window;
    int32_t depth = s->in_channels;
    int64_t sum = 0;
    int32_t r = row / w->stride_height;
    for (int32_t i = row % w->stride_height; i < w->kernel_height && r >= 0; i += w->stride_height, r--) {
        if (r >= w->out_height) continue;
        int32_t q = column / w->stride_width;
        for (int32_t j = column % w->stride_width; j < w->kernel_width && q >= 0; j += w->stride_width, q--) {
            if (q >= w->out_width) continue;
            const int16_t *pixel = image + (r * w->out_width + q) * depth;
            const int8_t *tap = filter + (i * w->kernel_width + j) * depth;
            for (int32_t c = 0; c < depth; c++) sum += tap[c] * pixel[c];
        }
    }
    return sum;
}

void edge_transpose_conv_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                             const int32_t *scaling, const edge_transpose_conv_int16 *s) {
    const edge_window *w = &s->window;
    int32_t filter = w->kernel_height * w->kernel_width * s->in_channels;
    for (int32_t b = 0; b < s->batches; b++, x += w->out_height * w->out_width * s->in_channels) {
        for (int32_t at = 0; at < w->height * w->width; at++) {
            int32_t row = at / w->width + w->pad_top, column = at % w->width + w->pad_left;
            for (int32_t n = 0; n < s->out_channels; n++) {
                int64_t sum = edge_wide(bias + 2 * n) + edge_transposed_dot(x, weights + n * filter, s, row, column);
                *y++ = edge_clamp_int16(edge_scale_reduced(sum, scaling + 2 * n), s->least, s->most);
            }
        }
    }
}
