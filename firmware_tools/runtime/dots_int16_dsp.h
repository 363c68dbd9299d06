/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Dot products of int16 numbers with int8 weights through SMLALD, two rows of weights at a time. */
#ifndef EDGE_DOTS_INT16_DSP_H
#define EDGE_DOTS_INT16_DSP_H

#include "dots_int8_dsp.h"

typedef struct {
    int64_t a, b;
} edge_two_sums;

/* Sums with so many fours of x. weights: four of one row and of the other, each four in the order 0, 2, 1, 3. */
static inline edge_two_sums edge_two_dots(edge_two_sums sums, const int16_t *x, const int8_t *weights, int32_t fours) {
    for (const int16_t *end = x + 4 * fours; x < end; x += 4, weights += 8) {
        uint32_t wa = edge_word(weights), wb = edge_word(weights + 4), low = edge_word(x), high = edge_word(x + 2);
        sums.a = __smlald((int16x2_t)__sxtb16(wa), (int16x2_t)low, sums.a);
        sums.b = __smlald((int16x2_t)__sxtb16(wb), (int16x2_t)low, sums.b);
        sums.a = __smlald((int16x2_t)edge_odd_bytes(wa), (int16x2_t)high, sums.a);
        sums.b = __smlald((int16x2_t)edge_odd_bytes(wb), (int16x2_t)high, sums.b);
    }
    return sums;
}

#endif
