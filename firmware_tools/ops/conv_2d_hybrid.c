/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_hybrid.h"

#include "hybrid.h"

/* One filter at one place: the image's part that its group sees begins at x; top and left may lie outside. */
static int32_t filtered(const int8_t *x, const int8_t *weights, const edge_float_conv *s, int32_t zero_point,
                        int32_t top, int32_t left) {
    const edge_window *w = &s->window;
    int32_t sum = 0;
    for (int32_t i = 0; i < w->kernel_height; i++) {
        int32_t row = top + i * w->dilation_height;
        if (row < 0 || row >= w->height) continue;
        for (int32_t j = 0; j < w->kernel_width; j++) {
            int32_t column = left + j * w->dilation_width;
            if (column < 0 || column >= w->width) continue;
            const int8_t *seen = x + ((size_t)row * (size_t)w->width + (size_t)column) * s->channels;
            sum += edge_hybrid_dot(weights + (size_t)(i * w->kernel_width + j) * s->depth, seen, s->depth, zero_point);
        }
    }
    return sum;
}

void edge_conv_2d_hybrid(const float *x, float *y, const int8_t *weights, const float *scales, const float *bias,
                         const edge_float_conv *s, int is_asymmetric, void *workspace) {
    const edge_window *w = &s->window;
    const int8_t *values = workspace;
    size_t image = (size_t)w->height * (size_t)w->width * s->channels;
    size_t size = (size_t)w->kernel_height * (size_t)w->kernel_width * s->depth;
    size_t group = s->filters / (s->channels / s->depth); /* filters of a group */
    for (size_t b = 0; b < s->batches; b++, x += image) {
        edge_hybrid how = edge_quantize_hybrid(x, workspace, image, is_asymmetric);
        for (int32_t place = 0; place < w->out_height * w->out_width; place++) {
            int32_t top = place / w->out_width * w->stride_height - w->pad_top;
            int32_t left = place % w->out_width * w->stride_width - w->pad_left;
            for (size_t n = 0; n < s->filters; n++) {
                const int8_t *seen = values + n / group * s->depth;
                float v = (float)filtered(seen, weights + n * size, s, how.zero_point, top, left);
                v = v * scales[n] * how.scale;
                if (bias) v += bias[n];
                *y++ = v < s->least ? s->least : v > s->most ? s->most : v;
            }
        }
    }
}
