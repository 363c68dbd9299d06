/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_float.h"

/* One filter at one place: the image's part that its group sees begins at x; top and left may lie outside. */
static float filtered(const float *x, const float *weights, const edge_float_conv *s, int32_t top, int32_t left) {
    const edge_window *w = &s->window;
    float sum = 0.0f;
    for (int32_t i = 0; i < w->kernel_height; i++) {
        int32_t row = top + i * w->dilation_height;
        if (row < 0 || row >= w->height) continue;
        for (int32_t j = 0; j < w->kernel_width; j++) {
            int32_t column = left + j * w->dilation_width;
            if (column < 0 || column >= w->width) continue;
            const float *seen = x + ((size_t)row * (size_t)w->width + (size_t)column) * s->channels;
            const float *filter = weights + (size_t)(i * w->kernel_width + j) * s->depth;
            for (size_t c = 0; c < s->depth; c++) sum += seen[c] * filter[c];
        }
    }
    return sum;
}

void edge_conv_2d_f32(const float *x, float *y, const float *weights, const float *bias, const edge_float_conv *s) {
    const edge_window *w = &s->window;
    size_t image = (size_t)w->height * (size_t)w->width * s->channels;
    size_t size = (size_t)w->kernel_height * (size_t)w->kernel_width * s->depth;
    size_t group = s->filters / (s->channels / s->depth); /* filters of a group */
    for (size_t b = 0; b < s->batches; b++, x += image) {
        for (int32_t place = 0; place < w->out_height * w->out_width; place++) {
            int32_t top = place / w->out_width * w->stride_height - w->pad_top;
            int32_t left = place % w->out_width * w->stride_width - w->pad_left;
            for (size_t n = 0; n < s->filters; n++) {
                float v = filtered(x + n / group * s->depth, weights + n * size, s, top, left);
                if (bias) v += bias[n];
                *y++ = v < s->least ? s->least : v > s->most ? s->most : v;
            }
        }
    }
}
