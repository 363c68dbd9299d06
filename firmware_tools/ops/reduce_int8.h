/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_REDUCE_INT8_H
#define EDGE_REDUCE_INT8_H

#include <stdint.h>

#define EDGE_REDUCE_RANK 4

typedef struct {
    int32_t count, step;
} edge_reduce_axis;

typedef struct {
    edge_reduce_axis kept[EDGE_REDUCE_RANK], reduced[EDGE_REDUCE_RANK]; /* from the outer to the inner */
    int32_t start, zero_point, multiplier, exponent;                   /* of sums */
} edge_reduction;

/* y, one element for each of the kept axes. */
void edge_reduce_sum_int8(const int8_t *x, int8_t *y, const edge_reduction *shape);
void edge_reduce_max_int8(const int8_t *x, int8_t *y, const edge_reduction *shape);
void edge_reduce_min_int8(const int8_t *x, int8_t *y, const edge_reduction *shape);

#endif
