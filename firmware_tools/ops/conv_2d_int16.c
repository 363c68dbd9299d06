/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_int16.h"

#include "requantize_int16.h"

/* The dot product of one filter with the part of its window that is inside the image. */
static int64_t edge_part_dot(const int16_t *pixels, const int8_t *taps, const edge_conv_2d_int16 *shape,
                             edge_window_part part) {
    const edge_window *w = &shape->window;
    int64_t sum = 0;
    /* without groups and dilation a row of the window lies in one piece */
    int is_run = shape->filter_channels == shape->in_channels && w->dilation_width == 1;
    int32_t pieces = is_run ? 1 : part.columns, count = shape->filter_channels * (is_run ? part.columns : 1);
    for (int32_t i = 0; i < part.rows; i++) {
        const int16_t *pixel = pixels + i * w->dilation_height * w->width * shape->in_channels;
        const int8_t *tap = taps + i * w->kernel_width * shape->filter_channels;
        for (int32_t j = 0; j < pieces; j++, pixel += w->dilation_width * shape->in_channels)
            for (int32_t c = 0; c < count; c++) sum += *tap++ * pixel[c];
    }
    return sum;
}

void edge_conv_2d_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                      const edge_conv_2d_int16 *shape) {
    const edge_window *w = &shape->window;
    int32_t depth = shape->filter_channels, filter = w->kernel_height * w->kernel_width * depth;
    int32_t group = shape->out_channels / (shape->in_channels / depth); /* filters in a group */
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * shape->in_channels) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++) {
            int32_t top = position / w->out_width * w->stride_height - w->pad_top;
            int32_t left = position % w->out_width * w->stride_width - w->pad_left;
            edge_window_part part = edge_inside(w, top, left);
            const int16_t *corner = x + (part.row * w->width + part.column) * shape->in_channels;
            const int8_t *taps = weights + (part.tap_row * w->kernel_width + part.tap_column) * depth;
            for (int32_t n = 0; n < shape->out_channels; n++, taps += filter) {
                int64_t sum = edge_wide(bias + 2 * n) + edge_part_dot(corner + n / group * depth, taps, shape, part);
                *y++ = edge_clamp_int16(edge_scale_reduced(sum, scaling + 2 * n), shape->least, shape->most);
            }
        }
    }
}
