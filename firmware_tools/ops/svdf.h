/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SVDF_H
#define EDGE_SVDF_H

#include <stdint.h>

typedef struct {
    int32_t batches, inputs, filters, memory, rank;
    int32_t multiplier, exponent;         /* of a feature */
    int32_t out_multiplier, out_exponent; /* of an output */
    int32_t zero_point, least, most;      /* of y */
    int32_t start;                        /* what a memory of zeros stands for */
} edge_svdf;

/* y[batches][filters / rank] of x[batches][inputs]. weights[filters][inputs], starts[filters]: what zero points add to
 * the features; time[filters][memory]; bias[filters / rank]; state[batches][filters][memory] starts as zeros. */
void edge_svdf_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts, const int8_t *time,
                  const int32_t *bias, const edge_svdf *shape, void *state);
void edge_svdf_s16(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts, const int16_t *time,
                   const int32_t *bias, const edge_svdf *shape, void *state);

/* The same through SMLAD. weights as svdf.py packs them: rows of four, in twos. workspace: x widened, 2 bytes each. */
void edge_svdf_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts, const int8_t *time,
                      const int32_t *bias, const edge_svdf *shape, void *state, void *workspace);
void edge_svdf_s16_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts, const int16_t *time,
                       const int32_t *bias, const edge_svdf *shape, void *state, void *workspace);

#endif
