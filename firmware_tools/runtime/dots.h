/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Int8 dot products in portable C, two rows at a time, so that x is loaded once for both. */
#ifndef EDGE_DOTS_H
#define EDGE_DOTS_H

#include "exp.h"

/* Adds to sums[2] the dot products of x with the rows a and b. */
static inline void edge_add_two_dots(const int8_t *a, const int8_t *b, const int8_t *x, int32_t count, int32_t sums[2]) {
    int32_t sum_a = sums[0], sum_b = sums[1], k = 0;
    EDGE_ROLLED
    for (; k + 2 <= count; k += 2) {
        int32_t value = x[k], next = x[k + 1];
        sum_a += a[k] * value;
        sum_b += b[k] * value;
        sum_a += a[k + 1] * next;
        sum_b += b[k + 1] * next;
    }
    if (k < count) sum_a += a[k] * x[k], sum_b += b[k] * x[k];
    sums[0] = sum_a, sums[1] = sum_b;
}

static inline int32_t edge_dot(const int8_t *a, const int8_t *x, int32_t count) {
    int32_t sum = 0;
    for (int32_t k = 0; k < count; k++) sum += a[k] * x[k];
    return sum;
}

#endif
