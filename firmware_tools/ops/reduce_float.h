/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_REDUCE_FLOAT_H
#define EDGE_REDUCE_FLOAT_H

#include <stddef.h>
#include <stdint.h>

/* Two loops over the elements of the result, and in them two over what becomes one; the steps are in elements of x. */
typedef struct {
    uint32_t kept[2], kept_step[2];
    uint32_t reduced[2], reduced_step[2];
} edge_float_reduction;

/* Each: y = the reduction of x. */
void edge_reduce_sum(const float *x, float *y, const edge_float_reduction *shape);
void edge_reduce_mean(const float *x, float *y, const edge_float_reduction *shape);
void edge_reduce_max(const float *x, float *y, const edge_float_reduction *shape);
void edge_reduce_min(const float *x, float *y, const edge_float_reduction *shape);
void edge_reduce_product(const float *x, float *y, const edge_float_reduction *shape);

#endif
