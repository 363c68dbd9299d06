/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_POOL_2D_FLOAT_H
#define EDGE_POOL_2D_FLOAT_H

#include "window.h"
#include <stddef.h>

/* Each: y = the mean or the largest of x in every window, channel by channel, clamped to least … most. */
void edge_average_pool_2d_f32(const float *x, float *y, const edge_window *window, size_t batches, size_t channels,
                              float least, float most);
void edge_max_pool_2d_f32(const float *x, float *y, const edge_window *window, size_t batches, size_t channels,
                          float least, float most);

#endif
