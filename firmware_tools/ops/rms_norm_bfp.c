/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rms_norm_bfp.h"

#include "bfp.h"

/* The root of x, rounded down, two bits of x for one of it. */
static inline uint32_t edge_root(uint32_t x) {
    uint32_t root = 0;
    for (uint32_t bit = 1u << 30; bit; bit >>= 2) {
        uint32_t tried = root + bit;
        root >>= 1;
        if (x >= tried) x -= tried, root += bit;
    }
    return root;
}

typedef struct {
    int32_t mantissa, exponent; /* from 2^14 to 2^15 */
} edge_inverse;

/* 1 / sqrt(sum * 2^exponent + epsilon); exponent is even. */
EDGE_BFP_PART edge_inverse edge_inverse_root(uint32_t sum, int32_t exponent, const edge_bfp_norm *norm) {
    int32_t up = norm->epsilon_exponent - exponent;
    if (up > 14) { /* too small to count beside epsilon, or nearly so */
        int32_t gone = (up - 14 + 1) / 2 * 2;
        sum >>= gone < 31 ? gone : 31;
        exponent += gone, up -= gone;
    }
    uint32_t total = sum + (up >= 0 ? norm->epsilon << up : norm->epsilon >> (up > -31 ? -up : 31));
    int32_t lift = (32 - edge_bfp_length(total)) / 2 * 2;
    return (edge_inverse){edge_bfp_inverse(edge_root(total << lift)), (lift - exponent) / 2 - 30};
}

EDGE_BFP_PART uint32_t edge_sum_of_squares(const int32_t *m, size_t count, edge_bfp_shift shift) {
    uint32_t sum = 0;
    EDGE_BFP_ROLLED
    for (size_t i = 0; i < count; i++) {
        int32_t x = edge_bfp_shifted(m[i], shift);
        sum += (uint32_t)(x * x);
    }
    return sum;
}

static inline void edge_multiply_by(const int32_t *x, int32_t *y, const int16_t *gain, const int32_t *end,
                                    edge_bfp_shift shift, int32_t inverse) {
    EDGE_BFP_ROLLED
    for (; x != end; x++, y++, gain++) *y = (edge_bfp_shifted(*x, shift) * *gain >> 16) * inverse;
}

EDGE_BFP_PART void edge_multiply(const int32_t *x, int32_t *y, const int16_t *gain, size_t count, edge_bfp_shift shift,
                                 int32_t inverse) {
    if (shift.up) edge_multiply_by(x, y, gain, x + count, shift, inverse);
    else edge_multiply_by(x, y, gain, x + count, (edge_bfp_shift){0, shift.down}, inverse);
}

static void edge_norm_row(const int32_t *x, int32_t *y, const edge_bfp_norm *norm) {
    size_t count = norm->count;
    int32_t bits = edge_bfp_bits(x + 1, count), squared = bits - norm->bits, shift = bits - EDGE_BFP_FULL;
    if (bits == 0) {
        for (size_t i = 0; i <= count; i++) y[i] = 0;
        return;
    }
    uint32_t sum = edge_sum_of_squares(x + 1, count, edge_bfp_shift_of(squared));
    edge_inverse inverse = edge_inverse_root(sum, 2 * (x[0] + squared), norm);
    y[0] = x[0] + shift + 16 + norm->gain_exponent + inverse.exponent;
    edge_multiply(x + 1, y + 1, norm->gain, count, edge_bfp_shift_of(shift), inverse.mantissa);
}

void edge_rms_norm_bfp(const int32_t *x, int32_t *y, const edge_bfp_norm *norm, size_t count) {
    for (; count > 0; count--, x += 1 + norm->count, y += 1 + norm->count) edge_norm_row(x, y, norm);
}
