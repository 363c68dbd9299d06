/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_H
#define EDGE_FULLY_CONNECTED_H

#include <stddef.h>
#include <stdint.h>

/* For each of count tokens y[rows] = weights x (+ bias, where it is not NULL), x[columns] quantized to int8 on the way.
 * weights: packed int8 (firmware_tools/packed.py); scales[rows]; workspace: 2 bytes a column, columns rounded up to a
 * multiple of 4. */
void edge_fully_connected_s8(const float *x, float *y, const int8_t *weights, const float *scales, const float *bias,
                             size_t rows, size_t columns, size_t count, void *workspace);
void edge_fully_connected_s8_dsp(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, void *workspace);
void edge_fully_connected_s8_dsp_long(const float *x, float *y, const int8_t *weights, const float *scales,
                                      const float *bias, size_t rows, size_t columns, size_t count, void *workspace);
void edge_fully_connected_s8_mve(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, void *workspace);

/* For each of count tokens y[rows] = weights[rows][columns] x (+ bias, where it is not NULL). */
void edge_fully_connected_f32(const float *x, float *y, const float *weights, const float *bias, size_t rows,
                              size_t columns, size_t count);
void edge_fully_connected_f32_mve(const float *x, float *y, const float *weights, const float *bias, size_t rows,
                                  size_t columns, size_t count);

#endif
