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
#define EDGE_LEAST_BYTE 8          /* of scales, see edge_byte_scale */
#define EDGE_MOST_BYTE 215
#define EDGE_BYTE_BIAS 848

/* A part of a kernel that stays a function: inlined into one, loops would take registers from each other. */
#define EDGE_PART __attribute__((noinline, unused)) static

typedef struct {
    float scale;      /* the row is words * scale */
    int32_t even_sum; /* of the integers in even columns; the stored bytes there are 128 too large */
} edge_row;

/* Integers that may lie where floats will: a kernel leaves its sums in the output and converts them in place. */
typedef int32_t __attribute__((may_alias)) edge_int;

static inline size_t edge_blocks(size_t columns) { return (columns + 3) / 4; }

static inline float edge_half_to_float(uint16_t bits) {
    _Float16 half;
    __builtin_memcpy(&half, &bits, sizeof half);
    return (float)half;
}

static inline uint16_t edge_half_bits(float x) {
    x = x < EDGE_LARGEST_HALF ? x : EDGE_LARGEST_HALF;
    _Float16 half = (_Float16)(x > -EDGE_LARGEST_HALF ? x : -EDGE_LARGEST_HALF);
    uint16_t bits;
    __builtin_memcpy(&bits, &half, sizeof bits);
    return bits;
}

/* A row's scale in a byte, 5 bits of exponent and 3 of mantissa: (1 + (byte & 7) / 8) * 2^((byte >> 3) - 21). */
static inline float edge_byte_scale(uint8_t byte) { return edge_bits_float((uint32_t)(byte + EDGE_BYTE_BIAS) << 20); }

/* The byte of the least scale that is not below this one. */
static inline uint8_t edge_scale_byte(float scale) {
    int32_t byte = (int32_t)((edge_float_bits(scale) + 0xFFFFF) >> 20) - EDGE_BYTE_BIAS;
    return (uint8_t)(byte < EDGE_LEAST_BYTE ? EDGE_LEAST_BYTE : byte > EDGE_MOST_BYTE ? EDGE_MOST_BYTE : byte);
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

/* Where the integers of a row go, by its largest: the float to multiply by, 0 for a row of zeros; *scale receives the way back. */
static inline float edge_inverse_of(float largest, float *scale) {
    int zero = !(largest > EDGE_TINIEST);
    *scale = zero ? 0.0f : largest / 127.0f;
    return zero ? 0.0f : 127.0f / largest;
}

static inline float edge_inverse_scale(const float *x, size_t count, float *scale) {
    return edge_inverse_of(edge_largest(x, count), scale);
}

/* Quantizes x (float32[count]) to int8 in words[edge_blocks(count)], zeros after the last; returns the sum of the integers
 * in even columns. */
EDGE_PART int32_t edge_quantize_by(const float *x, size_t count, float inverse, uint32_t *words) {
    int32_t even_sum = 0;
    EDGE_ROLLED
    for (size_t i = 0; i < count; i += 4) {
        uint32_t word = 0;
        for (size_t j = 0; j < 4 && i + j < count; j++) {
            int32_t value = edge_round(x[i + j] * inverse);
            word |= ((uint32_t)value & 0xFF) << 8 * j;
            if (j % 2 == 0) even_sum += value;
        }
        *words++ = word;
    }
    return even_sum;
}

EDGE_PART edge_row edge_quantize(const float *x, size_t count, uint32_t *words) {
    edge_row row;
    float inverse = edge_inverse_scale(x, count, &row.scale);
    row.even_sum = edge_quantize_by(x, count, inverse, words);
    return row;
}

/* What to multiply by for the KV cache, whose scales are bytes: *byte receives the way back. */
static inline float edge_inverse_byte_of(float largest, uint8_t *byte) {
    *byte = edge_scale_byte(largest / 127.0f);
    float scale = edge_byte_scale(*byte);
    return largest > scale * 127.0f ? 127.0f / largest : 1.0f / scale; /* the first where no byte is large enough */
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

/* y[4 * groups]: dots of signed bytes (no 128 on even columns) with int16 weights, times factor. A group of rows goes on
 * for group_bytes. Columns 1 and 2 of a block have changed places in the bytes, so that SXTB16 takes out neighbours. */
EDGE_PART void edge_weighted_sums(const uint8_t *rows, size_t groups, size_t group_bytes, const int16_t *weights,
                                  size_t blocks, float factor, float *y) {
    for (size_t g = 0; g < groups; g++, rows += group_bytes) {
        for (size_t r = 0; r < 4; r++) {
            int32_t dot = 0;
            for (size_t b = 0; b < blocks; b++) {
                const uint8_t *bytes = rows + b * EDGE_BLOCK_BYTES + 4 * r;
                const int16_t *w = weights + 4 * b;
                dot += (int8_t)bytes[0] * w[0] + (int8_t)bytes[2] * w[1] + (int8_t)bytes[1] * w[2] + (int8_t)bytes[3] * w[3];
            }
            *y++ = (float)dot * factor;
        }
    }
}

#endif
