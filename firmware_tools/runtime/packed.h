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

/* dots[4] of one group of signed bytes (no 128 on even columns) with int16 columns. Columns 1 and 2 of a block have
 * changed places in the bytes, so that SXTB16 takes out neighbours. */
EDGE_PART void edge_wide_dots(const uint8_t *rows, const int16_t *columns, size_t blocks, int32_t *dots) {
    dots[0] = dots[1] = dots[2] = dots[3] = 0;
    for (size_t b = 0; b < blocks; b++, columns += 4)
        for (size_t r = 0; r < 4; r++, rows += 4)
            dots[r] += (int8_t)rows[0] * columns[0] + (int8_t)rows[2] * columns[1] + (int8_t)rows[1] * columns[2] +
                       (int8_t)rows[3] * columns[3];
}

#endif
