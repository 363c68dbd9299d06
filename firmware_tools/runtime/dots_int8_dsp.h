/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Dot products of int8 numbers with int8 weights through SMLAD, two rows of weights at a time. */
#ifndef EDGE_DOTS_INT8_DSP_H
#define EDGE_DOTS_INT8_DSP_H

#include <arm_acle.h>
#include <stdint.h>

static inline uint32_t edge_word(const void *at) {
    uint32_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t edge_odd_bytes(uint32_t word) {
    uint32_t odd;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
    return odd;
}

/* x as words of its bytes 0 and 2, 1 and 3; what is missing of the last four is zero. */
static inline void edge_widen_row(const int8_t *x, int32_t count, uint32_t *words) {
    for (; count >= 4; count -= 4, x += 4) {
        uint32_t four = edge_word(x);
        *words++ = __sxtb16(four);
        *words++ = edge_odd_bytes(four);
    }
    if (count == 0) return;
    uint32_t four = 0;
    __builtin_memcpy(&four, x, (uint32_t)count);
    *words++ = __sxtb16(four);
    *words++ = edge_odd_bytes(four);
}

/* Two rows' dot products with x, of so many fours each; the weights are fours of one row and of the other. */
static inline const int8_t *edge_two_rows(const int8_t *weights, const uint32_t *x, int32_t fours, int32_t sums[2]) {
    int32_t a = 0, b = 0;
    for (const uint32_t *end = x + 2 * fours; x < end; x += 2, weights += 8) {
        uint32_t wa = edge_word(weights), wb = edge_word(weights + 4), even = x[0], odd = x[1];
        a = __smlad((int16x2_t)__sxtb16(wa), (int16x2_t)even, a);
        b = __smlad((int16x2_t)__sxtb16(wb), (int16x2_t)even, b);
        a = __smlad((int16x2_t)edge_odd_bytes(wa), (int16x2_t)odd, a);
        b = __smlad((int16x2_t)edge_odd_bytes(wb), (int16x2_t)odd, b);
    }
    sums[0] = a, sums[1] = b;
    return weights;
}

#endif
