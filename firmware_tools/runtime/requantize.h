/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* From int32 accumulators back to int8; firmware_tools/requantize.py explains the arithmetic. Right shifts of negative
 * numbers are arithmetic, as on every compiler this is built with. */
#ifndef EDGE_REQUANTIZE_H
#define EDGE_REQUANTIZE_H

#include <stdint.h>

/* x * multiplier * 2^(exponent - 31), rounded twice as gemmlowp does. */
static inline int32_t edge_scale_twice_rounded(int32_t x, int32_t multiplier, int32_t exponent) {
    int32_t left = exponent > 0 ? exponent : 0, right = left - exponent;
    int64_t product = (int64_t)x * ((int64_t)1 << left) * multiplier;
    int32_t high = (int32_t)((product + (1 << 30)) >> 31);
    if (right == 0) return high;
    return (high + (1 << (right - 1)) - (high < 0)) >> right;
}

static inline int32_t edge_clamp(int32_t x, int32_t least, int32_t most) {
    return x < least ? least : x > most ? most : x;
}

#endif
