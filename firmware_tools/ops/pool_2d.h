/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_POOL_2D_H
#define EDGE_POOL_2D_H

#include "window.h"

typedef struct {
    edge_window window;
    int32_t batches, channels;
    int32_t least, most;
} edge_pool_2d;

/* y[batches][out_height][out_width][channels] of x[batches][height][width][channels]. */
void edge_average_pool_2d_s8(const int8_t *x, int8_t *y, const edge_pool_2d *shape);
void edge_average_pool_2d_s16(const int16_t *x, int16_t *y, const edge_pool_2d *shape);
void edge_max_pool_2d_s8(const int8_t *x, int8_t *y, const edge_pool_2d *shape);
void edge_max_pool_2d_s16(const int16_t *x, int16_t *y, const edge_pool_2d *shape);

/* The same for channels in fours and windows of at most 256 pixels. */
void edge_average_pool_2d_s8_dsp(const int8_t *x, int8_t *y, const edge_pool_2d *shape);

#endif
