/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The functions of packed.h for cores with SMLAD (Cortex-M4, M7, M33); firmware_tools/packed.py explains the arithmetic.
 *
 * A quantized row is 2 words for 4 columns here: (x1, x3) and (256 x0 - x1, 256 x2 - x3), low half first. */
#ifndef EDGE_PACKED_DSP_H
#define EDGE_PACKED_DSP_H

#include "packed.h"
#include <arm_acle.h>

/* edge_largest of packed.h. Four are compared in one go: seldom is one of them larger. */
EDGE_PART float edge_largest_dsp(const float *x, size_t count) {
    const float *end = x + (count & ~(size_t)3);
    uint32_t largest = 0;
    if (x != end)
        __asm__ volatile(
            "1:\n\t"
            "ldmia  %[x]!, {r3, r4, r5, r6}\n\t"
            "cmp    %[largest], r3, lsl #1\n\t" /* without the sign */
            "ittt   hs\n\t"
            "cmphs  %[largest], r4, lsl #1\n\t"
            "cmphs  %[largest], r5, lsl #1\n\t"
            "cmphs  %[largest], r6, lsl #1\n\t"
            "bhs    2f\n\t"
            "cmp    %[largest], r3, lsl #1\n\t it lo\n\t lsllo %[largest], r3, #1\n\t"
            "cmp    %[largest], r4, lsl #1\n\t it lo\n\t lsllo %[largest], r4, #1\n\t"
            "cmp    %[largest], r5, lsl #1\n\t it lo\n\t lsllo %[largest], r5, #1\n\t"
            "cmp    %[largest], r6, lsl #1\n\t it lo\n\t lsllo %[largest], r6, #1\n"
            "2:\n\t"
            "cmp    %[x], %[end]\n\t"
            "bne    1b"
            : [x] "+&r"(x), [largest] "+&r"(largest)
            : [end] "r"(end)
            : "r3", "r4", "r5", "r6", "cc", "memory");
    for (count %= 4; count--; x++) {
        uint32_t bits = edge_float_bits(*x) << 1;
        if (bits > largest) largest = bits;
    }
    return edge_bits_float(largest >> 1);
}

/* The loop of a quantizer: blocks * 4 floats, blocks > 0, to words by `store`, which has the integers of a block in the low
 * halves of r3 to r6: rounded by the magic number, a float has its integer there. r2 sums up the even columns. */
#define EDGE_QUANTIZER(name, store)                                                                 \
    EDGE_PART int32_t name(const float *x, size_t blocks, float inverse, uint32_t *words) {         \
        const float *end = x + 4 * blocks;                                                          \
        register int32_t r2 __asm__("r2") = 0;                                                      \
        __asm__ volatile(                                                                           \
            "1:\n\t"                                                                                \
            "vldmia %[x]!, {s0-s3}\n\t"                                                             \
            "vmul.f32 s0, s0, %[inverse]\n\t vmul.f32 s1, s1, %[inverse]\n\t"                       \
            "vmul.f32 s2, s2, %[inverse]\n\t vmul.f32 s3, s3, %[inverse]\n\t"                       \
            "vadd.f32 s0, s0, %[magic]\n\t vadd.f32 s1, s1, %[magic]\n\t"                           \
            "vadd.f32 s2, s2, %[magic]\n\t vadd.f32 s3, s3, %[magic]\n\t"                           \
            "vmov   r3, r4, s0, s1\n\t"                                                             \
            "vmov   r5, r6, s2, s3\n\t" store                                                       \
            "cmp    %[x], %[end]\n\t"                                                               \
            "bne    1b"                                                                             \
            : [x] "+&r"(x), [words] "+&r"(words), "+&r"(r2)                                         \
            : [end] "r"(end), [inverse] "t"(inverse), [magic] "t"(EDGE_ROUND_MAGIC), [high] "r"(0xFF00FF00), \
              [ones] "r"(0x00010001)                                                                \
            : "r3", "r4", "r5", "r6", "s0", "s1", "s2", "s3", "cc", "memory");                      \
        return r2;                                                                                  \
    }

/* Leaves the two words of a block in r4 and r5. */
#define EDGE_TWO_WORDS                                                                              \
    "pkhbt  r3, r3, r5, lsl #16\n\t" /* x2, x0 */                                                   \
    "pkhbt  r4, r4, r6, lsl #16\n\t" /* x3, x1 */                                                   \
    "and    r5, %[high], r3, lsl #8\n\t"                                                            \
    "ssub16 r5, r5, r4\n\t"                                                                         \
    "smlad  r2, r3, %[ones], r2\n\t"

EDGE_QUANTIZER(edge_quantize_blocks, EDGE_TWO_WORDS "strd   r4, r5, [%[words]], #8\n\t")

typedef int32_t (*edge_quantizer)(const float *x, size_t blocks, float inverse, uint32_t *words);

/* A row by a quantizer that goes on by block_words for a block, zeros after the last column; returns the sum of the
 * integers in even columns. */
static inline __attribute__((always_inline)) int32_t edge_quantize_row(edge_quantizer quantize, const float *x,
                                                                       size_t count, float inverse, uint32_t *words,
                                                                       size_t block_words) {
    size_t blocks = count / 4;
    int32_t even_sum = 0;
    if (blocks > 0) even_sum = quantize(x, blocks, inverse, words);
    if (count % 4) {
        float last[4] = {0};
        for (size_t j = 0; j < count % 4; j++) last[j] = x[4 * blocks + j];
        even_sum += quantize(last, 1, inverse, words + block_words * blocks);
    }
    return even_sum;
}

#endif
