/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Rows of integers with one exponent, in portable C; firmware_tools/bfp.py explains them and equals this bit for bit. */
#ifndef EDGE_BFP_H
#define EDGE_BFP_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_BFP_FULL 15  /* bits that a factor may have: the product of two fits */
#define EDGE_BFP_BASE -24 /* the exponent of a scale code's exponent 0 */

/* gcc takes inline assembly of Armv6-M in an older syntax unless told otherwise. */
#define EDGE_UNIFIED ".syntax unified\n\t"

/* A part of a kernel that stays a function. */
#define EDGE_BFP_PART __attribute__((noinline, unused)) static

/* Before a loop that is not worth unrolling; other compilers do not unroll at -O2. */
#ifdef __clang__
#define EDGE_BFP_ROLLED _Pragma("GCC unroll 1")
#else
#define EDGE_BFP_ROLLED
#endif

/* The bits that an unsigned number takes. */
static inline int32_t edge_bfp_length(uint32_t x) { return x ? 32 - __builtin_clz(x) : 0; }

static inline int32_t edge_bfp_left(int32_t m, int32_t places) { return (int32_t)((uint32_t)m << places); }

/* A shift to the right, or by a negative number to the left, as two that are not negative: loops need not ask which. */
typedef struct {
    int32_t up, down;
} edge_bfp_shift;

static inline edge_bfp_shift edge_bfp_shift_of(int32_t shift) {
    if (shift < 0) return (edge_bfp_shift){shift > -31 ? -shift : 31, 0};
    return (edge_bfp_shift){0, shift < 31 ? shift : 31};
}

/* m * 2^-shift, rounded down. */
static inline int32_t edge_bfp_shifted(int32_t m, edge_bfp_shift shift) {
    return edge_bfp_left(m, shift.up) >> shift.down;
}

static inline int32_t edge_bfp_scaled(int32_t m, int32_t shift) {
    return edge_bfp_shifted(m, edge_bfp_shift_of(shift));
}

static inline uint32_t edge_bfp_magnitude(int32_t m) { return m < 0 ? -(uint32_t)m : (uint32_t)m; }

#ifdef __ARM_ARCH_6M__
#include "bfp_v6m.h"
#else
/* 2^30 / x for x in [2^15, 2^16), rounded down. */
static inline int32_t edge_bfp_inverse(uint32_t x) { return (int32_t)((1u << 30) / x); }

/* All mantissas' magnitudes, less 1 where they are negative, in one OR. */
EDGE_BFP_PART uint32_t edge_bfp_any(const int32_t *m, size_t count) {
    uint32_t any = 0;
    for (size_t i = 0; i < count; i++) any |= (uint32_t)(m[i] ^ m[i] >> 31);
    return any;
}

/* The largest magnitude of the numbers and of the sums of neighbours (0, 1), (2, 3) … of an even count. */
EDGE_BFP_PART uint32_t edge_bfp_largest_of_pairs(const int32_t *m, size_t count) {
    int32_t high = 0, low = 0;
    EDGE_BFP_ROLLED
    for (size_t i = 0; i < count; i += 2) {
        int32_t first = m[i], second = m[i + 1], sum = first + second;
        if (first > high) high = first;
        if (first < low) low = first;
        if (second > high) high = second;
        if (second < low) low = second;
        if (sum > high) high = sum;
        if (sum < low) low = sum;
    }
    return (uint32_t)(high > -low ? high : -low);
}
#endif

/* The least w such that every m is in [-2^w, 2^w). */
static inline int32_t edge_bfp_bits(const int32_t *m, size_t count) { return edge_bfp_length(edge_bfp_any(m, count)); }

/* The shift that makes so many bits of mantissas that have `bits`; zeros are left as they are. */
static inline int32_t edge_bfp_narrowing(int32_t bits, int32_t width) { return bits ? bits - width : 0; }

/* y = a + b, rows of count mantissas; y may be a or b. */
EDGE_BFP_PART void edge_bfp_add(const int32_t *a, const int32_t *b, int32_t *y, size_t count) {
    int32_t a_bits = edge_bfp_bits(a + 1, count), b_bits = edge_bfp_bits(b + 1, count);
    int32_t a_top = a[0] + a_bits, b_top = b[0] + b_bits, top = 28;
    if (a_bits) top = a_top;
    if (b_bits && (!a_bits || b_top > top)) top = b_top;
    int32_t exponent = top - 28;
    edge_bfp_shift of_a = edge_bfp_shift_of(exponent - a[0]), of_b = edge_bfp_shift_of(exponent - b[0]);
    y[0] = exponent;
    EDGE_BFP_ROLLED
    for (size_t i = 1; i <= count; i++) y[i] = edge_bfp_shifted(a[i], of_a) + edge_bfp_shifted(b[i], of_b);
}

/* What the integers of a quantized row stand for: about q * factor * 2^exponent. */
typedef struct {
    int32_t down, reciprocal; /* q is ((m >> down) * reciprocal) / 2^23, rounded */
    int32_t factor, exponent;
} edge_bfp_scale;

/* The largest magnitude of the numbers and of the sums of neighbours; a last number alone is one. */
static inline uint32_t edge_bfp_largest(const int32_t *m, size_t count) {
    uint32_t top = edge_bfp_largest_of_pairs(m, count & ~(size_t)1);
    uint32_t last = count % 2 ? edge_bfp_magnitude(m[count - 1]) : 0;
    return last > top ? last : top;
}

/* The scale of a row whose edge_bfp_largest is top. */
static inline edge_bfp_scale edge_bfp_find_scale(uint32_t top, int32_t exponent) {
    if (top == 0) return (edge_bfp_scale){0, 0, 0, 0};
    int32_t shift = edge_bfp_length(top) - EDGE_BFP_FULL, largest = edge_bfp_scaled((int32_t)top, shift);
    int32_t reciprocal = edge_bfp_inverse(2 * (uint32_t)largest) * 127 >> 6, factor = largest * 33026 >> 15;
    if (shift < 0) /* m << -shift would be as exact as the same shift of the reciprocal */
        return (edge_bfp_scale){0, edge_bfp_left(reciprocal, -shift), factor, exponent + shift - 7};
    return (edge_bfp_scale){shift, reciprocal, factor, exponent + shift - 7};
}

static inline int32_t edge_bfp_quantized(int32_t m, edge_bfp_scale scale) {
    return ((m >> scale.down) * scale.reciprocal + (1 << 22)) >> 23;
}

/* The integer part of dot * factor / 2^drop, where drop is 8 or 16 and both halves of the product fit. */
static inline int32_t edge_bfp_product(int32_t dot, int32_t factor, int32_t drop) {
    uint32_t low = (uint32_t)dot & (drop == 8 ? 0xFFu : 0xFFFFu);
    return (dot >> drop) * factor + (int32_t)(low * (uint32_t)factor >> drop);
}

#endif
