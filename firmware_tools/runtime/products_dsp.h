/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Int8 matrix products on cores with SMLAD (Cortex-M4, M7, M33); firmware_tools/products.py explains the arithmetic. */
#ifndef EDGE_PRODUCTS_DSP_H
#define EDGE_PRODUCTS_DSP_H

#include "exp.h"
#include "products.h"
#include <arm_acle.h>
#include <stddef.h>
#include <stdint.h>

/* A part of a kernel that stays a function: inlined into one, loops would take registers from each other. */
#ifndef EDGE_PART
#define EDGE_PART __attribute__((noinline, unused)) static
#endif

static inline uint32_t edge_load_word(const int8_t *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

/* (x1, x3) of four bytes */
static inline uint32_t edge_odd_columns(uint32_t word) {
    uint32_t odd;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
    return odd;
}

/* (x0, x2) */
static inline uint32_t edge_even_channels(uint32_t word) {
    uint32_t even;
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(word));
    return even;
}

/* (256 x0 - x1 + 127, 256 x2 - x3 + 127) */
static inline uint32_t edge_even_columns(uint32_t word) {
    uint32_t even;
    __asm__("rev16 %0, %1" : "=r"(even) : "r"(word));
    return even ^ EDGE_WORD_SIGNS;
}

/* Widens 4 * blocks bytes: of each block the odd columns go to words[0], the even ones to words[between], and the next
 * block's lie 2 * between words further. */
static inline void edge_widen(const int8_t *bytes, size_t blocks, uint32_t *words, size_t between) {
    EDGE_ROLLED
    for (; blocks > 0; blocks--, bytes += 4, words += 2 * between) {
        uint32_t word = edge_load_word(bytes);
        words[0] = edge_odd_columns(word);
        words[between] = edge_even_columns(word);
    }
}

/* The same for the last 1 to 3 bytes of a window: one block. */
static inline void edge_widen_rest(const int8_t *bytes, size_t count, uint32_t *words, size_t between) {
    uint32_t word = 0;
    for (size_t i = 0; i < count; i++) word |= (uint32_t)(uint8_t)bytes[i] << 8 * i;
    words[0] = edge_odd_columns(word);
    words[between] = edge_even_columns(word);
}

/* The high word of sum * multiplier, plus offset: SMMLA. */
static inline int32_t edge_scale_sum(int32_t sum, int32_t multiplier, int32_t offset) {
    int32_t high;
    __asm__("smmla %0, %1, %2, %3" : "=r"(high) : "r"(sum), "r"(multiplier), "r"(offset));
    return high;
}

/* Clamps count results in place, where their range is not the whole of int8. */
static inline void edge_clamp_bytes(int8_t *y, int32_t count, int32_t least, int32_t most) {
    if (least == -128 && most == 127) return;
    for (int32_t i = 0; i < count; i++) y[i] = (int8_t)(y[i] < least ? least : y[i] > most ? most : y[i]);
}

/* One block of 2 rows by 4 columns with 3 windows: 17 instructions for 24 products. */
#define EDGE_BLOCK_2_BY_3                                                                           \
    "ldmia.w r0!, {r9, r10}\n\t"                                                                    \
    "ldmia.w r1!, {r11, r12, lr}\n\t"                                                               \
    "smlad   r3, r9, r11, r3\n\t smlad   r4, r9, r12, r4\n\t smlad   r5, r9, lr, r5\n\t"            \
    "smlad   r6, r10, r11, r6\n\t smlad   r7, r10, r12, r7\n\t smlad   r8, r10, lr, r8\n\t"         \
    "sxtb16  r9, r9\n\t sxtb16  r10, r10\n\t"                                                       \
    "ldmia.w r1!, {r11, r12, lr}\n\t"                                                               \
    "smlad   r3, r9, r11, r3\n\t smlad   r4, r9, r12, r4\n\t smlad   r5, r9, lr, r5\n\t"            \
    "smlad   r6, r10, r11, r6\n\t smlad   r7, r10, r12, r7\n\t smlad   r8, r10, lr, r8\n\t"

#define EDGE_BLOCK_2_BY_3_BYTES 68 /* of code */

/* How far into four blocks the loops of this file must be entered, so that their last round is full. */
static inline size_t edge_entry(size_t blocks, size_t block_bytes) { return (0 - blocks) % 4 * block_bytes; }

/* Turns the sums r3 to r5 or r6 to r8 of a row into bytes; r9, r10, r11: multiplier, offset, shift. In the second form
 * halves below zero go away from it; r2 is -128. */
#define EDGE_FINISH_3(a, b, c)                                                                      \
    "smmla   " a ", " a ", r9, r10\n\t smmla   " b ", " b ", r9, r10\n\t smmla   " c ", " c ", r9, r10\n\t" \
    "asr     " a ", " a ", r11\n\t asr     " b ", " b ", r11\n\t asr     " c ", " c ", r11\n\t"      \
    "ssat    " a ", #8, " a "\n\t ssat    " b ", #8, " b "\n\t ssat    " c ", #8, " c "\n\t"

#define EDGE_SCALE_AWAY(a) "and r1, r2, " a ", asr #24\n\t smmla   " a ", " a ", r9, r10\n\t add " a ", " a ", r1\n\t"

#define EDGE_FINISH_3_AWAY(a, b, c)                                                                 \
    EDGE_SCALE_AWAY(a) EDGE_SCALE_AWAY(b) EDGE_SCALE_AWAY(c)                                        \
    "asr     " a ", " a ", r11\n\t asr     " b ", " b ", r11\n\t asr     " c ", " c ", r11\n\t"      \
    "ssat    " a ", #8, " a "\n\t ssat    " b ", #8, " b "\n\t ssat    " c ", #8, " c "\n\t"

/* All that a product of 3 windows needs; y: where each window's outputs go, of windows that are not there those of
 * window 0, which is written last. */
typedef struct {
    const uint32_t *words;
    size_t blocks;
    const int32_t *start;
    size_t entry;
    const int32_t *scaling;
    int8_t *y[3];
    int8_t *end; /* of y[0] */
    const int8_t *weights;
} edge_product_3;

/* Makes a function: the outputs of 3 windows for pairs of rows, pairs > 0, y in the whole range of int8. */
#define EDGE_PRODUCT_OF_3(name, finish)                                                             \
    EDGE_PART void name(edge_product_3 *product) {                                                  \
        uint32_t pushed[2]; /* in the frame, so that the compiler's count of the stack covers it */ \
        __asm__ volatile("" : : "r"(pushed));                                                       \
        register edge_product_3 *r1 __asm__("r1") = product;                                        \
        __asm__ volatile(                                                                           \
            "push    {r1, r7}\n\t"                                                                  \
            "ldr     r0, [r1, #36]\n\t"                                                             \
            "adr     r3, 1f\n\t"                                                                    \
            "ldr     r4, [r1, #12]\n\t"                                                             \
            "add     r4, r4, r3\n\t"                                                                \
            "str     r4, [r1, #12]\n"                                                               \
            "0:\n\t"                                                                                \
            "ldr     r12, [sp]\n\t"                                                                 \
            "ldmia.w r12, {r1, r2, r9, r10}\n\t"                                                    \
            "ldrd    r3, r6, [r9], #8\n\t"                                                          \
            "str     r9, [r12, #8]\n\t"                                                             \
            "mov     r4, r3\n\t mov     r5, r3\n\t mov     r7, r6\n\t mov     r8, r6\n\t"            \
            "mov     pc, r10\n\t"                                                                      \
            ".balign 4\n"                                                                           \
            "1:\n\t" EDGE_BLOCK_2_BY_3 EDGE_BLOCK_2_BY_3 EDGE_BLOCK_2_BY_3 EDGE_BLOCK_2_BY_3        \
            "subs    r2, #4\n\t"                                                                    \
            "bgt     1b\n\t"                                                                        \
            "ldr     r12, [sp]\n\t"                                                                 \
            "mvn     r2, #127\n\t"                                                                  \
            "ldr     lr, [r12, #16]!\n\t"                                                           \
            "ldmia.w lr!, {r9, r10, r11}\n\t" finish("r3", "r4", "r5")                              \
            "ldmia.w lr!, {r9, r10, r11}\n\t" finish("r6", "r7", "r8")                              \
            "str     lr, [r12], #4\n\t"                                                             \
            "ldmia.w r12, {r1, r2, r9, r10}\n\t"                                                    \
            "strb    r5, [r9], #1\n\t strb    r4, [r2], #1\n\t strb    r3, [r1], #1\n\t"           \
            "strb    r8, [r9], #1\n\t strb    r7, [r2], #1\n\t strb    r6, [r1], #1\n\t"           \
            "stmia.w r12, {r1, r2, r9}\n\t"                                                         \
            "cmp     r1, r10\n\t"                                                                   \
            "bne     0b\n\t"                                                                        \
            "ldr     r12, [sp]\n\t"                                                                 \
            "str     r0, [r12, #36]\n\t"                                                            \
            "pop     {r1, r7}"                                                                      \
            : "+r"(r1)                                                                              \
            :                                                                                       \
            : "r0", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }

/* The outputs of all rows; values as the struct says, but for start, scaling, weights and end. */
EDGE_PRODUCT_OF_3(edge_product_of_3, EDGE_FINISH_3)
EDGE_PRODUCT_OF_3(edge_product_of_3_away, EDGE_FINISH_3_AWAY)

/* No pointers to functions here and in the kernels: the stack of a call must be known beforehand. */
static inline void edge_multiply_3(edge_product_3 *product, int away) {
    if (away) edge_product_of_3_away(product);
    else edge_product_of_3(product);
}

/* One block of 4 rows by 4 columns with one window: 14 instructions for 16 products. */
#define EDGE_BLOCK_PRODUCTS(odd, even)                                                              \
    "smlad   r3, r8, " odd ", r3\n\t smlad   r4, r9, " odd ", r4\n\t"                               \
    "smlad   r5, r10, " odd ", r5\n\t smlad   r6, r11, " odd ", r6\n\t"                             \
    "sxtb16  r8, r8\n\t sxtb16  r9, r9\n\t sxtb16  r10, r10\n\t sxtb16  r11, r11\n\t"               \
    "smlad   r3, r8, " even ", r3\n\t smlad   r4, r9, " even ", r4\n\t"                             \
    "smlad   r5, r10, " even ", r5\n\t smlad   r6, r11, " even ", r6\n\t"

#define EDGE_BLOCK_4_BY_1                                                                           \
    "ldmia.w r0!, {r8, r9, r10, r11}\n\t"                                                           \
    "ldrd    r12, lr, [r1], #8\n\t" EDGE_BLOCK_PRODUCTS("r12", "lr")

#define EDGE_BLOCK_4_BY_1_BYTES 56

/* The same, widening the window's bytes on the way; r2 is EDGE_WORD_SIGNS. */
#define EDGE_BLOCK_4_BY_BYTES                                                                       \
    "ldmia.w r0!, {r8, r9, r10, r11}\n\t"                                                           \
    "ldr     r12, [r1], #4\n\t"                                                                     \
    "sxtb16  lr, r12, ror #8\n\t"                                                                   \
    "rev16.w r12, r12\n\t"                                                                          \
    "eor.w   r12, r12, r2\n\t" EDGE_BLOCK_PRODUCTS("lr", "r12")

#define EDGE_BLOCK_4_BY_BYTES_BYTES 68

/* Turns the sums r3 to r6 into bytes and stores them; lr points to the scaling, and leaves y in r11, its end in r12. */
#define EDGE_FINISH_ALIKE                                                                           \
    "ldmia.w lr, {r8, r9, r10, r11, r12}\n\t"                                                       \
    "smmla   r3, r3, r8, r9\n\t smmla   r4, r4, r8, r9\n\t"                                        \
    "smmla   r5, r5, r8, r9\n\t smmla   r6, r6, r8, r9\n\t"                                        \
    "asr     r3, r3, r10\n\t asr     r4, r4, r10\n\t asr     r5, r5, r10\n\t asr     r6, r6, r10\n\t" \
    "ssat    r3, #8, r3\n\t ssat    r4, #8, r4\n\t ssat    r5, #8, r5\n\t ssat    r6, #8, r6\n\t" \
    "strb    r3, [r11], #1\n\t strb    r4, [r11], #1\n\t"                                          \
    "strb    r5, [r11], #1\n\t strb    r6, [r11], #1\n\t"

#define EDGE_FINISH_ROW(sum)                                                                        \
    "ldmia.w r1!, {r8, r9, r10}\n\t"                                                                \
    "smmla   " sum ", " sum ", r8, r9\n\t"                                                          \
    "asr     " sum ", " sum ", r10\n\t"                                                             \
    "ssat    " sum ", #8, " sum "\n\t"                                                              \
    "strb    " sum ", [r11], #1\n\t"

#define EDGE_FINISH_EACH                                                                            \
    "ldr     r1, [lr]\n\t"                                                                          \
    "ldrd    r11, r12, [lr, #12]\n\t" EDGE_FINISH_ROW("r3") EDGE_FINISH_ROW("r4") EDGE_FINISH_ROW("r5") \
    EDGE_FINISH_ROW("r6") "str     r1, [lr]\n\t"

/* Stores them as they are, y being int32. */
#define EDGE_FINISH_NOT                                                                             \
    "ldrd    r11, r12, [lr, #12]\n\t"                                                               \
    "stmia.w r11!, {r3, r4, r5, r6}\n\t"

/* Makes a function: the outputs of one window for groups of 4 rows, at least one, y in the whole range of int8. */
#define EDGE_PRODUCT_OF_1(name, block, finish)                                                      \
    EDGE_PART void name(edge_product_1 *product) {                                                  \
        uint32_t pushed[2]; /* in the frame, so that the compiler's count of the stack covers it */ \
        __asm__ volatile("" : : "r"(pushed));                                                       \
        register edge_product_1 *r1 __asm__("r1") = product;                                        \
        __asm__ volatile(                                                                           \
            "push    {r1, r7}\n\t"                                                                  \
            "ldr     r0, [r1, #40]\n\t"                                                             \
            "adr     r3, 1f\n\t"                                                                    \
            "ldr     r4, [r1, #16]\n\t"                                                             \
            "add     r4, r4, r3\n\t"                                                                \
            "str     r4, [r1, #16]\n"                                                               \
            "0:\n\t"                                                                                \
            "ldr     lr, [sp]\n\t"                                                                  \
            "ldmia.w lr, {r1, r2, r7, r8, r12}\n\t"                                                 \
            "ldmia.w r8!, {r3, r4, r5, r6}\n\t"                                                     \
            "str     r8, [lr, #12]\n\t"                                                             \
            "mov     pc, r12\n\t"                                                                      \
            ".balign 4\n"                                                                           \
            "1:\n\t" block block block block                                                        \
            "subs    r7, #4\n\t"                                                                    \
            "bgt     1b\n\t"                                                                        \
            "ldr     lr, [sp]\n\t"                                                                  \
            "add     lr, lr, #20\n\t" finish                                                        \
            "str     r11, [lr, #12]\n\t"                                                            \
            "cmp     r11, r12\n\t"                                                                  \
            "bne     0b\n\t"                                                                        \
            "str     r0, [lr, #20]\n\t"                                                             \
            "pop     {r1, r7}"                                                                      \
            : "+r"(r1)                                                                              \
            :                                                                                       \
            : "r0", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }

EDGE_PRODUCT_OF_1(edge_product_of_1, EDGE_BLOCK_4_BY_1, EDGE_FINISH_ALIKE)
EDGE_PRODUCT_OF_1(edge_product_of_1_each, EDGE_BLOCK_4_BY_1, EDGE_FINISH_EACH)
EDGE_PRODUCT_OF_1(edge_product_of_bytes, EDGE_BLOCK_4_BY_BYTES, EDGE_FINISH_ALIKE)
EDGE_PRODUCT_OF_1(edge_product_of_bytes_each, EDGE_BLOCK_4_BY_BYTES, EDGE_FINISH_EACH)
EDGE_PRODUCT_OF_1(edge_sums_of_bytes, EDGE_BLOCK_4_BY_BYTES, EDGE_FINISH_NOT)

#endif
