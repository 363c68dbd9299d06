/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Numbers in fixed point, bit for bit as firmware_tools/fixed_point.py has them; Qn is an int32 of n integer bits. */
#ifndef EDGE_FIXED_POINT_H
#define EDGE_FIXED_POINT_H

#include <stdint.h>

/* The high half of twice a product, rounded; not for two least numbers. */
static inline int32_t edge_high_product(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^count, halves away from zero. */
static inline int32_t edge_shifted_right(int32_t x, int32_t count) {
    if (count == 0) return x;
    return (int32_t)(((int64_t)x + ((int64_t)1 << (count - 1)) - (x < 0)) >> count);
}

/* x * 2^count, saturated. */
static inline int32_t edge_shifted_left(int32_t x, int32_t count) {
    int64_t wide = (int64_t)x * ((int64_t)1 << count);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* 1 / (1 + x) in Q0, of x in [0, 1) in Q0: three steps of Newton's. */
static inline int32_t edge_reciprocal(int32_t x) {
    int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    int32_t y = 1515870810 + edge_high_product(half, -1010580540); /* 48/17 - 32/17 * half, in Q2 */
    for (int32_t i = 0; i < 3; i++) {
        int32_t rest = (1 << 29) - edge_high_product(half, y);
        y += edge_shifted_left(edge_high_product(y, rest), 2);
    }
    return edge_shifted_left(y, 1);
}

#endif
