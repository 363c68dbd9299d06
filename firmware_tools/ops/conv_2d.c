/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_window.h"
#include "dots.h"
#include "requantize.h"

static inline int8_t edge_convolved(int32_t sum, const int32_t *scaling, const edge_conv_2d *shape) {
    int32_t scaled = edge_scale_twice_rounded(sum, scaling[0], scaling[1]);
    return (int8_t)edge_clamp(scaled + shape->out_zero_point, shape->least, shape->most);
}

void edge_conv_2d_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                     const edge_conv_2d *shape, void *workspace) {
    const edge_window *w = &shape->window;
    int32_t depth = w->kernel_height * w->kernel_width * shape->in_channels, last = shape->out_channels - 1;
    int is_pixel = w->kernel_height * w->kernel_width == 1; /* then all windows lie inside the image */
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * shape->in_channels) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++, y += shape->out_channels) {
            int32_t top = position / w->out_width * w->stride_height - w->pad_top;
            int32_t left = position % w->out_width * w->stride_width - w->pad_left;
            const int8_t *seen = workspace;
            if (is_pixel) seen = x + (top * w->width + left) * shape->in_channels;
            else edge_gather(x, shape, top, left, workspace);
            int32_t n = 0;
            for (; n < last; n += 2) {
                int32_t sums[2] = {bias[n], bias[n + 1]};
                edge_add_two_dots(weights + n * depth, weights + (n + 1) * depth, seen, depth, sums);
                y[n] = edge_convolved(sums[0], scaling + 2 * n, shape);
                y[n + 1] = edge_convolved(sums[1], scaling + 2 * (n + 1), shape);
            }
            if (n == last)
                y[n] = edge_convolved(bias[n] + edge_dot(weights + n * depth, seen, depth), scaling + 2 * n, shape);
        }
    }
}

/* The dot product of one filter with the window at (top, left) of an image; first is the first channel it sees. */
static int32_t edge_window_dot(const int8_t *image, const int8_t *weights, const edge_conv_2d *shape, int32_t top,
                               int32_t left, int32_t first) {
    const edge_window *w = &shape->window;
    int32_t sum = 0, depth = shape->filter_channels;
    for (int32_t i = 0; i < w->kernel_height; i++) {
        int32_t row = top + i * w->dilation_height;
        for (int32_t j = 0; j < w->kernel_width; j++, weights += depth) {
            int32_t column = left + j * w->dilation_width;
            if (row < 0 || row >= w->height || column < 0 || column >= w->width) continue;
            const int8_t *x = image + (row * w->width + column) * shape->in_channels + first;
            for (int32_t c = 0; c < depth; c++) sum += weights[c] * (x[c] - shape->zero_point);
        }
    }
    return sum;
}

void edge_conv_2d_s8_groups(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                     const edge_conv_2d *shape) {
    const edge_window *w = &shape->window;
    int32_t filter_bytes = w->kernel_height * w->kernel_width * shape->filter_channels;
    int32_t group = shape->out_channels / (shape->in_channels / shape->filter_channels); /* filters in a group */
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * shape->in_channels) {
        for (int32_t position = 0; position < w->out_height * w->out_width; position++) {
            int32_t top = position / w->out_width * w->stride_height - w->pad_top;
            int32_t left = position % w->out_width * w->stride_width - w->pad_left;
            for (int32_t n = 0; n < shape->out_channels; n++) {
                int32_t first = n / group * shape->filter_channels;
                int32_t sum = bias[n] + edge_window_dot(x, weights + n * filter_bytes, shape, top, left, first);
                *y++ = edge_convolved(sum, scaling + 2 * n, shape);
            }
        }
    }
}
