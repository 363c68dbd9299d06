/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SVDF_FLOAT_H
#define EDGE_SVDF_FLOAT_H

#include <stdint.h>

typedef struct {
    uint32_t batches, inputs, filters, memory, rank;
} edge_svdf_f32_shape;

/* y[batches][filters / rank] of x[batches][inputs], features[filters][inputs], time[filters][memory] (+ bias, where it is
 * not NULL), clamped to least … most. state[batches][filters][memory] moves on by a step; it starts as zeros. */
void edge_svdf_f32(const float *x, float *y, const float *features, const float *time, const float *bias,
                   const edge_svdf_f32_shape *shape, float least, float most, void *state);

#endif
