/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_INT16_H
#define EDGE_FULLY_CONNECTED_INT16_H

#include <stdint.h>

typedef struct {
    int32_t batches, rows, columns;
    int32_t high, low, shift; /* the factor: (high + low / 2^24) / 2^shift */
    int32_t least, most;
} edge_fully_connected_int16;

/* y[batches][rows] of x[batches][columns]; weights[rows][columns]; bias: 64 bits of each row, low and high half. */
void edge_fully_connected_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                              const edge_fully_connected_int16 *shape);

/* The same of columns that are a multiple of 4 and an even number of rows; weights as dots_int16_dsp.h has them. */
void edge_fully_connected_s16_dsp(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                                  const edge_fully_connected_int16 *shape);

#endif
