/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_INT8_H
#define EDGE_FULLY_CONNECTED_INT8_H

#include "products.h"

typedef struct {
    int32_t batches, rows, columns;
    int32_t scalings; /* 1, or one for each row */
    int32_t zero_point, least, most;
} edge_fully_connected_shape;

/* y[batches][rows] of x[batches][columns]. bias has the input's zero point folded in; scaling: (multiplier, shift,
 * offset's low and high word). */
void edge_fully_connected_int8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                               const int32_t *scaling, const edge_fully_connected_shape *shape);

/* The same with weights, bias and scaling as firmware_tools/products.py lays them out, rows in fours. workspace: 2 bytes
 * a column, columns rounded up to a multiple of 4; `few` needs none and takes longer for many rows. */
void edge_fully_connected_int8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                   const int32_t *scaling, const edge_fully_connected_shape *shape, void *workspace);
void edge_fully_connected_int8_few_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                       const int32_t *scaling, const edge_fully_connected_shape *shape);

/* The same for one x, rows in fours of one scaling and all of int8 as y's range; it changes what product says. */
void edge_fully_connected_int8_fours_dsp(edge_product_1 *product);

/* The same for sums that do not fit 24 bits: bias[rows] and scaling as the first function has them, behind the bias what
 * the sums of each chunk start at. */
void edge_fully_connected_int8_wide_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                        const int32_t *scaling, const edge_fully_connected_shape *shape);

/* y of a sum, rounded once; scaling: (multiplier, shift, offset's low and high word). */
static inline int8_t edge_connected(int32_t sum, const int32_t *scaling, const edge_fully_connected_shape *shape) {
    int64_t offset = (int64_t)scaling[3] * 4294967296 + (uint32_t)scaling[2];
    int32_t y = (int32_t)(((int64_t)sum * scaling[0] + offset) >> scaling[1]) + shape->zero_point;
    return (int8_t)(y < shape->least ? shape->least : y > shape->most ? shape->most : y);
}

#endif
