/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The functions of packed.h for cores with SMLAD (Cortex-M4, M7, M33); firmware_tools/packed.py explains the arithmetic.
 *
 * A quantized row is 2 words for 4 columns here: (x1, x3) and (256 x0 - x1, 256 x2 - x3), low half first. */
#ifndef EDGE_PACKED_DSP_H
#define EDGE_PACKED_DSP_H

#include "packed.h"
#include <arm_acle.h>

#define EDGE_CHUNK 64 /* blocks whose sums fit 32 bits whatever the bytes are: 256 columns of at most 345 */

/* The 2 words of 4 floats that carry the magic number, whose low halves are integers; returns the new sum of even ones. */
static inline int32_t edge_pair(const uint32_t *bits, uint32_t *words, int32_t even_sum) {
    uint32_t even = (bits[0] & 0xFFFF) | bits[2] << 16;
    uint32_t odd = (bits[1] & 0xFFFF) | bits[3] << 16;
    words[0] = odd;
    words[1] = (uint32_t)__ssub16((int16x2_t)((even & 0x00FF00FF) << 8), (int16x2_t)odd);
    return __smlad((int16x2_t)even, 0x00010001, even_sum);
}

EDGE_PART edge_row edge_quantize_dsp(const float *x, size_t count, uint32_t *words) {
    edge_row row = {0};
    float inverse = edge_inverse_scale(x, count, &row.scale);
    uint32_t bits[4];
    EDGE_ROLLED
    for (size_t b = 0; b < count / 4; b++, x += 4, words += 2) {
        for (size_t j = 0; j < 4; j++) bits[j] = edge_float_bits(x[j] * inverse + EDGE_ROUND_MAGIC);
        row.even_sum = edge_pair(bits, words, row.even_sum);
    }
    if (count % 4) {
        for (size_t j = 0; j < 4; j++)
            bits[j] = j < count % 4 ? edge_float_bits(x[j] * inverse + EDGE_ROUND_MAGIC) : 0;
        row.even_sum = edge_pair(bits, words, row.even_sum);
    }
    return row;
}

/* The loops below need 13 registers, all but the frame pointer, so they name them: LDM takes a block of 4 rows by 4
 * columns into r4, r5, r6 and r8; r3, r9, r10 and r11 are the sums of the rows. */
#define EDGE_DOTS_BLOCK                                                                             \
    "ldrd   r12, lr, [r1], #8\n\t"                                                                  \
    "ldmia  r0!, {r4, r5, r6, r8}\n\t"                                                              \
    "smlad  r3, r4, r12, r3\n\t smlad  r9, r5, r12, r9\n\t"                                         \
    "smlad  r10, r6, r12, r10\n\t smlad  r11, r8, r12, r11\n\t"                                     \
    "uxtb16 r4, r4\n\t uxtb16 r5, r5\n\t uxtb16 r6, r6\n\t uxtb16 r8, r8\n\t"                       \
    "smlad  r3, r4, lr, r3\n\t smlad  r9, r5, lr, r9\n\t"                                           \
    "smlad  r10, r6, lr, r10\n\t smlad  r11, r8, lr, r11\n\t"

/* Adds a chunk of columns to dots[4 * groups]; groups > 0. A group's rows go on for skip bytes after the chunk. */
static inline void edge_add_chunk(const uint8_t *rows, const uint32_t *words, uint32_t blocks, edge_int *dots,
                                  uint32_t groups, uint32_t skip) {
    register const uint8_t *r0 __asm__("r0") = rows;
    register const uint32_t *r1 __asm__("r1") = words;
    register uint32_t r2 __asm__("r2") = blocks;
    register edge_int *r3 __asm__("r3") = dots;
    register uint32_t r4 __asm__("r4") = groups;
    register uint32_t r5 __asm__("r5") = skip;
    __asm__ volatile(
        "push   {r1, r2, r3, r4, r5}\n"
        "0:\n\t"
        "ldrd   r1, r2, [sp]\n\t"
        "movs   r3, #0\n\t"
        "mov    r9, #0\n\t"
        "mov    r10, #0\n\t"
        "mov    r11, #0\n\t"
        "subs   r2, #4\n\t"
        "blt    2f\n"
        "1:\n\t" EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK
        "subs   r2, #4\n\t"
        "bge    1b\n"
        "2:\n\t"
        "adds   r2, #4\n\t"
        "beq    4f\n"
        "3:\n\t" EDGE_DOTS_BLOCK
        "subs   r2, #1\n\t"
        "bne    3b\n"
        "4:\n\t"
        "ldr    r1, [sp, #8]\n\t"
        "ldmia  r1, {r4, r5, r6, r8}\n\t"
        "add    r4, r4, r3, asr #8\n\t"
        "add    r5, r5, r9, asr #8\n\t"
        "add    r6, r6, r10, asr #8\n\t"
        "add    r8, r8, r11, asr #8\n\t"
        "stmia  r1!, {r4, r5, r6, r8}\n\t"
        "ldrd   r2, r4, [sp, #12]\n\t"
        "add    r0, r0, r4\n\t"
        "subs   r2, #1\n\t"
        "strd   r1, r2, [sp, #8]\n\t"
        "bne    0b\n\t"
        "add    sp, #20"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5)
        :
        : "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

EDGE_PART void edge_dots_dsp(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                             edge_int *dots) {
    uint32_t pushed[5]; /* in the frame, so that the compiler's count of the stack covers what the assembly pushes */
    __asm__ volatile("" : : "r"(pushed));
    for (size_t i = 0; i < 4 * groups; i++) dots[i] = -128 * even_sum;
    for (size_t first = 0; groups > 0 && first < blocks; first += EDGE_CHUNK) {
        size_t chunk = blocks - first < EDGE_CHUNK ? blocks - first : EDGE_CHUNK;
        edge_add_chunk(rows + first * EDGE_BLOCK_BYTES, words + 2 * first, chunk, dots, groups,
                       (blocks - chunk) * EDGE_BLOCK_BYTES);
    }
}

/* Signed bytes and int16 columns: SXTB16 twice a word, since int16 leaves no room for the trick with 256. */
EDGE_PART void edge_wide_dots_dsp(const uint8_t *rows, const int16_t *columns, size_t blocks, int32_t *dots) {
    register const uint8_t *r0 __asm__("r0") = rows;
    register const int16_t *r1 __asm__("r1") = columns;
    register size_t r2 __asm__("r2") = blocks;
    register int32_t a __asm__("r3"), b __asm__("r9"), c __asm__("r10"), d __asm__("r11");
    __asm__ volatile(
        "movs   r3, #0\n\t"
        "mov    r9, #0\n\t"
        "mov    r10, #0\n\t"
        "mov    r11, #0\n"
        "1:\n\t"
        "ldmia  r0!, {r4, r5, r6, r8}\n\t"
        "ldr    r12, [r1], #4\n\t"
        "sxtb16 lr, r4\n\t smlad  r3, lr, r12, r3\n\t"
        "sxtb16 lr, r5\n\t smlad  r9, lr, r12, r9\n\t"
        "sxtb16 lr, r6\n\t smlad  r10, lr, r12, r10\n\t"
        "sxtb16 lr, r8\n\t smlad  r11, lr, r12, r11\n\t"
        "ldr    r12, [r1], #4\n\t"
        "sxtb16 r4, r4, ror #8\n\t smlad  r3, r4, r12, r3\n\t"
        "sxtb16 r5, r5, ror #8\n\t smlad  r9, r5, r12, r9\n\t"
        "sxtb16 r6, r6, ror #8\n\t smlad  r10, r6, r12, r10\n\t"
        "sxtb16 r8, r8, ror #8\n\t smlad  r11, r8, r12, r11\n\t"
        "subs   r2, #1\n\t"
        "bne    1b"
        : "+r"(r0), "+r"(r1), "+r"(r2), "=&r"(a), "=&r"(b), "=&r"(c), "=&r"(d)
        :
        : "r4", "r5", "r6", "r8", "r12", "lr", "cc", "memory");
    dots[0] = a, dots[1] = b, dots[2] = c, dots[3] = d;
}

#endif
