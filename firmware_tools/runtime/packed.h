/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Int8 rows and packed matrices in portable C; firmware_tools/packed.py explains them. packed_dsp.h has the faster way. */
#ifndef EDGE_PACKED_H
#define EDGE_PACKED_H

#include "exp.h"
#include <stddef.h>
#include <stdint.h>

#define EDGE_BLOCK_BYTES 16
#define EDGE_TINIEST 0x1p-100f     /* a row no larger than this is zero: 127 / amax must be finite */
#define EDGE_LARGEST_HALF 65504.0f

/* A part of a kernel that stays a function: inlined into one, loops would take registers from each other. */
#define EDGE_PART __attribute__((noinline, unused)) static

typedef struct {
    float scale;      /* the row is words * scale */
    int32_t even_sum; /* of the integers in even columns; the stored bytes there are 128 too large */
} edge_row;

/* Integers that may lie where floats will: a kernel leaves its sums in the output and converts them in place. */
typedef int32_t __attribute__((may_alias)) edge_int;

/* Likewise int16 columns may lie where integers were: a weight takes half of its score's place. */
typedef int16_t __attribute__((may_alias)) edge_weight;

static inline size_t edge_blocks(size_t columns) { return (columns + 3) / 4; }

static inline float edge_half_to_float(uint16_t bits) {
    _Float16 half;
    __builtin_memcpy(&half, &bits, sizeof half);
    return (float)half;
}

static inline uint16_t edge_half_bits(float x) {
    _Float16 half = (_Float16)(x < EDGE_LARGEST_HALF ? x : EDGE_LARGEST_HALF);
    uint16_t bits;
    __builtin_memcpy(&bits, &half, sizeof bits);
    return bits;
}

/* max |x|: without their signs, floats compare as integers do. */
EDGE_PART float edge_largest(const float *x, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = edge_float_bits(x[i]) << 1;
        if (bits > largest) largest = bits;
    }
    return edge_bits_float(largest >> 1);
}

/* Where the integers of x go: the float to multiply by, 0 for a row of zeros; *scale receives the way back. */
static inline float edge_inverse_scale(const float *x, size_t count, float *scale) {
    float largest = edge_largest(x, count);
    int zero = !(largest > EDGE_TINIEST);
    *scale = zero ? 0.0f : largest / 127.0f;
    return zero ? 0.0f : 127.0f / largest;
}

/* Quantizes x (float32[count]) to int8 in words[edge_blocks(count)], zeros after the last. */
EDGE_PART edge_row edge_quantize(const float *x, size_t count, uint32_t *words) {
    edge_row row = {0};
    float inverse = edge_inverse_scale(x, count, &row.scale);
    EDGE_ROLLED
    for (size_t i = 0; i < count; i += 4) {
        uint32_t word = 0;
        for (size_t j = 0; j < 4 && i + j < count; j++) {
            int32_t value = edge_round(x[i + j] * inverse);
            word |= ((uint32_t)value & 0xFF) << 8 * j;
            if (j % 2 == 0) row.even_sum += value;
        }
        *words++ = word;
    }
    return row;
}

/* dots[4 * groups] of packed rows (each group is blocks * 16 bytes) with a quantized row. */
EDGE_PART void edge_dots(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks,
                             int32_t even_sum, edge_int *dots) {
    for (size_t g = 0; g < groups; g++, dots += 4) {
        dots[0] = dots[1] = dots[2] = dots[3] = -128 * even_sum;
        for (size_t b = 0; b < blocks; b++) {
            uint32_t word = words[b];
            int32_t x0 = (int8_t)word, x1 = (int8_t)(word >> 8), x2 = (int8_t)(word >> 16), x3 = (int8_t)(word >> 24);
            for (size_t r = 0; r < 4; r++, rows += 4)
                dots[r] += rows[0] * x0 + (int8_t)rows[1] * x1 + rows[2] * x2 + (int8_t)rows[3] * x3;
        }
    }
}

/* Makes y[count] of the dots that lie there. */
EDGE_PART void edge_scale_dots(float *y, size_t count, float factor, const float *scales) {
    const edge_int *dots = (const edge_int *)y;
    for (size_t n = 0; n < count; n++) y[n] = (float)dots[n] * (factor * scales[n]);
}

/* y[4 * groups]: edge_dots as floats, times the scales of both. */
EDGE_PART void edge_scaled_dots(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, edge_row row,
                                const float *scales, float *y) {
    edge_dots(rows, groups, words, blocks, row.even_sum, (edge_int *)y);
    edge_scale_dots(y, 4 * groups, row.scale, scales);
}

/* x in 2^-16, towards zero, saturated as VCVT does it. */
static inline int32_t edge_fixed(float x) {
    x *= 65536.0f;
    if (x >= 0x1p31f) return INT32_MAX;
    return x > -0x1p31f ? (int32_t)x : INT32_MIN;
}

/* Makes scores of the dots that lie there. */
EDGE_PART void edge_fix_scores(int32_t *scores, size_t count, const uint16_t *scales, float factor) {
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++) scores[t] = edge_fixed((float)scores[t] * edge_half_to_float(scales[t]) * factor);
}

/* scores[4 * groups]: edge_dots times half-precision scales and the factor, in 2^-16. */
EDGE_PART void edge_scores(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                           const uint16_t *scales, float factor, int32_t *scores) {
    edge_dots(rows, groups, words, blocks, even_sum, scores);
    edge_fix_scores(scores, 4 * groups, scales, factor);
}

/* y[4 * groups]: dots of signed bytes (no 128 on even columns) with int16 weights, times factor. A group of rows goes on
 * for group_bytes. Columns 1 and 2 of a block have changed places in the bytes, so that SXTB16 takes out neighbours. */
EDGE_PART void edge_weighted_sums(const uint8_t *rows, size_t groups, size_t group_bytes, const edge_weight *weights,
                                  size_t blocks, float factor, float *y) {
    for (size_t g = 0; g < groups; g++, rows += group_bytes) {
        for (size_t r = 0; r < 4; r++) {
            int32_t dot = 0;
            for (size_t b = 0; b < blocks; b++) {
                const uint8_t *bytes = rows + b * EDGE_BLOCK_BYTES + 4 * r;
                const edge_weight *w = weights + 4 * b;
                dot += (int8_t)bytes[0] * w[0] + (int8_t)bytes[2] * w[1] + (int8_t)bytes[1] * w[2] + (int8_t)bytes[3] * w[3];
            }
            *y++ = (float)dot * factor;
        }
    }
}

#endif
