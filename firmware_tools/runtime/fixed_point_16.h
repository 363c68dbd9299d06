/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* 16-bit fixed-point tanh and logistic function: equal bit for bit to firmware_tools/fixed_point_16.py, which explains them.
 * Right shifts of negative numbers are arithmetic, as on every compiler this is built with. */
#ifndef EDGE_FIXED_POINT_16_H
#define EDGE_FIXED_POINT_16_H

#include <stdint.h>

#define EDGE_FIXED __attribute__((unused)) static

static inline int32_t edge_saturated_16(int32_t x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }

/* x / 2^shift, to nearest, halves away from zero. */
static inline int32_t edge_rounding_shift(int32_t x, int32_t shift) {
    int32_t mask = (int32_t)((1u << shift) - 1);
    return (x >> shift) + ((x & mask) > (mask >> 1) + (x < 0));
}

/* a b / 2^15, to nearest, saturated; what gemmlowp writes with a nudge and a division is the same. */
static inline int32_t edge_high_mul(int32_t a, int32_t b) {
    return edge_saturated_16((a * b + (1 << 14)) >> 15);
}

static inline int32_t edge_left_16(int32_t x, int32_t shift) { return edge_saturated_16(x * (1 << shift)); }

/* e^a for a <= 0 of so many integer bits; the result has none. */
EDGE_FIXED int32_t edge_exp_of_negative(int32_t a, int32_t integer_bits) {
    static const int16_t squeeze[7] = {25520, 19875, 12055, 4435, 600, 11, 0}; /* e^(-2^k), k from -2 */
    int32_t fraction = 15 - integer_bits, quarter = 1 << (fraction - 2);
    int32_t part = (a & (quarter - 1)) - quarter;
    int32_t x = edge_left_16(part, integer_bits) + (1 << 12);
    int32_t x2 = edge_high_mul(x, x), x3 = edge_high_mul(x2, x), x4 = edge_high_mul(x2, x2);
    int32_t rest = (int16_t)(edge_high_mul((int16_t)(edge_rounding_shift(x4, 2) + x3), 10923) + x2);
    int32_t result = edge_saturated_16(28918 + edge_high_mul((int16_t)(x + edge_rounding_shift(rest, 1)), 28918));
    int32_t remainder = (int16_t)(part - a);
    for (int32_t k = -2; k < 5 && k < integer_bits; k++)
        if (remainder & 1 << (fraction + k)) result = edge_high_mul(result, squeeze[k + 2]);
    if (integer_bits > 5 && a < -(1 << (20 - integer_bits))) result = 0;
    return a == 0 ? 32767 : result;
}

/* 2 / (1 + a), two integer bits, for a in 0 … 1 with none. */
EDGE_FIXED int32_t edge_newton(int32_t a) {
    int32_t half = (a + 32767 + 1) >> 1, x = 23130 + edge_high_mul(half, -15420);
    for (int i = 0; i < 3; i++) {
        int32_t error = (int16_t)((1 << 13) - edge_high_mul(half, x));
        x = (int16_t)(x + edge_left_16(edge_high_mul(x, error), 2));
    }
    return x;
}

/* tanh of a, which has at most 6 integer bits; the result has none. */
EDGE_FIXED int32_t edge_tanh_16(int32_t a, int32_t integer_bits) {
    if (a == 0) return 0;
    int32_t x = edge_newton(edge_exp_of_negative(a < 0 ? a : -a, integer_bits + 1));
    int32_t t = edge_left_16((int16_t)(x - (1 << 13)), 2);
    return a < 0 ? -t : t;
}

/* 1 / (1 + e^-a), a has 3 integer bits, the result none. */
EDGE_FIXED int32_t edge_logistic_16(int32_t a) {
    if (a == 0) return 16384;
    int32_t y = edge_left_16(edge_newton(edge_exp_of_negative(a > 0 ? -a : a, 3)), 1);
    return a > 0 ? y : 32767 - y;
}

#endif
