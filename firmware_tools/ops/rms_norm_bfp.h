/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_RMS_NORM_BFP_H
#define EDGE_RMS_NORM_BFP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const int16_t *gain; /* times sqrt(count) and 2^-gain_exponent */
    size_t count;
    int32_t bits; /* of the numbers that are squared */
    int32_t gain_exponent;
    uint32_t epsilon; /* of the sum of squares, times 2^-epsilon_exponent */
    int32_t epsilon_exponent;
} edge_bfp_norm;

/* y = x / sqrt(mean(x * x) + epsilon) * gain for rows of 1 + norm->count integers (firmware_tools/bfp.py); y may be x. */
void edge_rms_norm_bfp(const int32_t *x, int32_t *y, const edge_bfp_norm *norm, size_t count);

#endif
