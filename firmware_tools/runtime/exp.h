/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* exp() in single IEEE operations: equal bit for bit to firmware_tools/exp.py, whose text explains it. */
#ifndef EDGE_EXP_H
#define EDGE_EXP_H

#include <stdint.h>

#define EDGE_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds a float below 2^22 to the nearest even integer */

/* Before a loop that is not worth unrolling; other compilers do not unroll at -O2. */
#ifdef __clang__
#define EDGE_ROLLED _Pragma("GCC unroll 1")
#else
#define EDGE_ROLLED
#endif

static inline uint32_t edge_float_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float edge_bits_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

/* The nearest integer to x, ties to even, for |x| < 2^22; numpy's rint. */
static inline int32_t edge_round(float x) { return (int32_t)(edge_float_bits(x + EDGE_ROUND_MAGIC) - 0x4B400000u); }

/* 2^power for power in [-125.5, 127]. */
static inline float edge_exp2(float power) {
    float shifted = power + EDGE_ROUND_MAGIC;
    float fraction = power - (shifted - EDGE_ROUND_MAGIC);
    float result = 1.32647273e-3f;
    result = result * fraction + 9.67151299e-3f;
    result = result * fraction + 5.55073358e-2f;
    result = result * fraction + 2.40222424e-1f;
    result = result * fraction + 6.93147004e-1f;
    result = result * fraction + 1.0f;
    /* the shift drops all of the magic number but the integer it carries */
    return edge_bits_float(edge_float_bits(result) + (edge_float_bits(shifted) << 23));
}

/* e^x, x clamped to [-87, 88]. */
static inline float edge_exp(float x) {
    if (x < -87.0f) x = -87.0f;
    if (x > 88.0f) x = 88.0f;
    return edge_exp2(x * 1.4426950408889634f);
}

#endif
