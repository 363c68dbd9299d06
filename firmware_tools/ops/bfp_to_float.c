/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "bfp_to_float.h"

#include "bfp.h"

#define BITS 23

typedef uint32_t __attribute__((may_alias)) edge_float_word;

/* Makes floats of m >> down, less than 2^24 each: there is no FPU to do it. top is the exponent field for bit 22 of a
 * significand, whose bit 23 adds 1 to it. */
EDGE_BFP_PART void edge_make_floats(const int32_t *m, edge_float_word *words, size_t count, int32_t down, uint32_t top) {
    const int32_t *end = m + count;
    EDGE_BFP_ROLLED
    for (; m != end; m++, words++) {
        int32_t value = *m >> down;
        uint32_t significand = edge_bfp_magnitude(value) << 8, field = top;
        if (significand) {
            while ((int32_t)significand >= 0) significand <<= 1, field -= 1u << 23;
            field += significand >> 8;
        } else {
            field = 0;
        }
        *words = ((uint32_t)value & 0x80000000u) | field;
    }
}

void edge_bfp_to_float(const int32_t *x, float *y, size_t size, size_t count) {
    for (; count > 0; count--, x += 1 + size, y += size) {
        int32_t down = edge_bfp_bits(x + 1, size) - BITS, exponent = x[0];
        if (down < 0) down = 0;
        exponent += down;
        exponent = exponent < -126 ? -126 : exponent > 103 ? 103 : exponent;
        edge_make_floats(x + 1, (edge_float_word *)y, size, down, (uint32_t)(exponent + 149) << 23);
    }
}
