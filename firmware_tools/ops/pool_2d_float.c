/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "pool_2d_float.h"

/* The first row or column of the image that a window from `start` on sees, and the one after the last. */
typedef struct {
    int32_t first, end;
} edge_part;

static edge_part inside(int32_t start, int32_t kernel, int32_t size) {
    edge_part part = {start < 0 ? 0 : start, start + kernel < size ? start + kernel : size};
    return part;
}

/* From start on, each element v changes the result r. */
#define EDGE_POOL(name, start, step, end_value)                                                                        \
    void edge_##name##_pool_2d_f32(const float *x, float *y, const edge_window *w, size_t batches, size_t channels,   \
                                   float least, float most) {                                                         \
        for (; batches--; x += (size_t)w->height * (size_t)w->width * channels) {                                     \
            for (int32_t place = 0; place < w->out_height * w->out_width; place++) {                                  \
                int32_t top = place / w->out_width * w->stride_height - w->pad_top;                                   \
                int32_t left = place % w->out_width * w->stride_width - w->pad_left;                                  \
                edge_part rows = inside(top, w->kernel_height, w->height);                                            \
                edge_part columns = inside(left, w->kernel_width, w->width);                                          \
                for (size_t c = 0; c < channels; c++) {                                                               \
                    float r = (start);                                                                                \
                    int32_t count = 0;                                                                                \
                    for (int32_t i = rows.first; i < rows.end; i++)                                                   \
                        for (int32_t j = columns.first; j < columns.end; j++, count++) {                              \
                            float v = x[((size_t)i * (size_t)w->width + (size_t)j) * channels + c];                   \
                            r = (step);                                                                               \
                        }                                                                                             \
                    (void)count;                                                                                      \
                    r = (end_value);                                                                                  \
                    *y++ = r < least ? least : r > most ? most : r;                                                   \
                }                                                                                                     \
            }                                                                                                         \
        }                                                                                                             \
    }

EDGE_POOL(average, 0.0f, r + v, r / (float)count)
EDGE_POOL(max, -__builtin_inff(), v > r ? v : r, r)
