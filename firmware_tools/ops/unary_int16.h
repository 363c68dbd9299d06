/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_UNARY_INT16_H
#define EDGE_UNARY_INT16_H

#include <stdint.h>

typedef struct {
    int32_t multiplier, exponent, sign; /* sign: 1 or -1 */
} edge_slope;

/* y[count] of x, each times a factor above and another below zero, clamped; y may be x. */
void edge_slopes_int16(const int16_t *x, int16_t *y, int32_t count, const edge_slope slopes[2], int32_t least,
                       int32_t most);

#endif
