/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_RESIZE_NEAREST_NEIGHBOR_H
#define EDGE_RESIZE_NEAREST_NEIGHBOR_H

#include <stdint.h>

/* y[batches][out_height][out_width] of x[batches][height][width], pixels of so many bytes: x at rows[out_height] and
 * columns[out_width]. */
void edge_resize_nearest_neighbor(const void *x, void *y, const uint16_t *rows, const uint16_t *columns, int32_t batches,
                                  int32_t height, int32_t width, int32_t pixel_bytes, int32_t out_height,
                                  int32_t out_width);

#endif
