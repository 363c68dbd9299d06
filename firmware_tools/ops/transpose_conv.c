/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "transpose_conv.h"
#include "requantize.h"

/* The pixel whose filter has its tap number `tap` at this distance from the image's start; -1 where there is none. */
static inline int32_t edge_source(int32_t distance, int32_t tap, int32_t stride, int32_t size) {
    int32_t at = distance - tap;
    return at >= 0 && at % stride == 0 && at / stride < size ? at / stride : -1;
}

/* The sum of one output; filter: of its channel. */
static int32_t edge_transposed_sum(const int8_t *image, const int8_t *filter, const edge_transpose_conv *shape,
                                   int32_t row, int32_t column) {
    int32_t sum = 0, depth = shape->channels;
    for (int32_t k = 0; k < shape->kernel_height; k++) {
        int32_t i = edge_source(row + shape->pad_top, k, shape->stride_height, shape->height);
        if (i < 0) continue;
        for (int32_t l = 0; l < shape->kernel_width; l++) {
            int32_t j = edge_source(column + shape->pad_left, l, shape->stride_width, shape->width);
            if (j < 0) continue;
            const int8_t *x = image + (i * shape->width + j) * depth;
            const int8_t *w = filter + (k * shape->kernel_width + l) * depth;
            for (int32_t c = 0; c < depth; c++) sum += w[c] * (x[c] - shape->zero_point);
        }
    }
    return sum;
}

void edge_transpose_conv_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                            const int32_t *scaling, const edge_transpose_conv *shape) {
    int32_t filter_bytes = shape->kernel_height * shape->kernel_width * shape->channels;
    for (int32_t b = 0; b < shape->batches; b++, x += shape->height * shape->width * shape->channels) {
        for (int32_t at = 0; at < shape->out_height * shape->out_width; at++) {
            for (int32_t n = 0; n < shape->out_channels; n++) {
                int32_t sum = bias[n] + edge_transposed_sum(x, weights + n * filter_bytes, shape, at / shape->out_width,
                                                            at % shape->out_width);
                int32_t scaled = edge_scale_twice_rounded(sum, scaling[2 * n], scaling[2 * n + 1]);
                *y++ = (int8_t)edge_clamp(scaled + shape->out_zero_point, shape->least, shape->most);
            }
        }
    }
}
