/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_INT4_H
#define EDGE_FULLY_CONNECTED_INT4_H

#include <stddef.h>
#include <stdint.h>

/* For each of count tokens y[rows] = weights x (+ bias, where it is not NULL), x[columns] quantized to int8 on the way.
 * weights: packed 4-bit integers (firmware_tools/packed4.py). Either scales[rows] with block 0, or block_scales in half
 * precision for each `block` columns. workspace: 2 bytes a column, columns rounded up to a multiple of 4, and 12 bytes
 * for each block or each 512 columns. */
void edge_fully_connected_int4(const float *x, float *y, const uint16_t *weights, const float *scales,
                               const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                               size_t block, size_t count, void *workspace);
void edge_fully_connected_int4_dsp(const float *x, float *y, const uint16_t *weights, const float *scales,
                                   const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                                   size_t block, size_t count, void *workspace);
void edge_fully_connected_int4_mve(const float *x, float *y, const uint16_t *weights, const float *scales,
                                   const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                                   size_t block, size_t count, void *workspace);

#endif
