/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "pool_2d_window.h"

/* Makes a function: each output starts at `start`, takes in the elements of its window by `step` and ends as `end`. */
#define EDGE_POOL(name, type, start, step, end)                                                     \
    void name(const type *x, type *y, const edge_pool_2d *shape) {                                  \
        const edge_window *w = &shape->window;                                                      \
        int32_t channels = shape->channels, pitch = w->width * channels;                            \
        for (int32_t b = 0; b < shape->batches; b++, x += w->height * pitch) {                      \
            for (int32_t position = 0; position < w->out_height * w->out_width; position++) {       \
                edge_window_part part = edge_pool_part(w, position); \
                const type *corner = x + part.row * pitch + part.column * channels;                   \
                int32_t count = part.rows * part.columns;                                           \
                (void)count;                                                                        \
                for (int32_t c = 0; c < channels; c++) {                                            \
                    int32_t so_far = start;                                                         \
                    for (int32_t i = 0; i < part.rows; i++) {                                       \
                        const type *pixel = corner + i * pitch + c;                                 \
                        for (int32_t j = 0; j < part.columns; j++, pixel += channels) step(so_far, *pixel); \
                    }                                                                               \
                    *y++ = (type)edge_clamp(end, shape->least, shape->most);                        \
                }                                                                                   \
            }                                                                                       \
        }                                                                                           \
    }

#define EDGE_ADD(so_far, element) so_far += (element)
#define EDGE_LARGER(so_far, element) so_far = (element) > so_far ? (element) : so_far

EDGE_POOL(edge_average_pool_2d_s8, int8_t, 0, EDGE_ADD, edge_mean(so_far, count))
EDGE_POOL(edge_average_pool_2d_s16, int16_t, 0, EDGE_ADD, edge_mean(so_far, count))
EDGE_POOL(edge_max_pool_2d_s8, int8_t, INT8_MIN, EDGE_LARGER, so_far)
EDGE_POOL(edge_max_pool_2d_s16, int16_t, INT16_MIN, EDGE_LARGER, so_far)
