/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The functions of packed.h for cores with SMLAD (Cortex-M4, M7, M33); firmware_tools/packed.py explains the arithmetic.
 *
 * A quantized row is 2 words for 4 columns here: (x1, x3) and (256 x0 - x1, 256 x2 - x3), low half first. */
#ifndef EDGE_PACKED_DSP_H
#define EDGE_PACKED_DSP_H

#include "packed.h"
#include <arm_acle.h>

#define EDGE_CHUNK 64 /* blocks whose sums fit 32 bits whatever the bytes are: 256 columns of at most 345 */

/* Quantizes blocks * 4 floats; blocks > 0. Rounded by the magic number, a float has its integer in its low half. */
static inline int32_t edge_quantize_blocks(const float *x, size_t blocks, float inverse, uint32_t *words) {
    const float *end = x + 4 * blocks;
    int32_t even_sum = 0;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[x]!, {s0-s3}\n\t"
        "vmul.f32 s0, s0, %[inverse]\n\t vmul.f32 s1, s1, %[inverse]\n\t"
        "vmul.f32 s2, s2, %[inverse]\n\t vmul.f32 s3, s3, %[inverse]\n\t"
        "vadd.f32 s0, s0, %[magic]\n\t vadd.f32 s1, s1, %[magic]\n\t"
        "vadd.f32 s2, s2, %[magic]\n\t vadd.f32 s3, s3, %[magic]\n\t"
        "vmov   r3, r4, s0, s1\n\t"
        "vmov   r5, r6, s2, s3\n\t"
        "pkhbt  r3, r3, r5, lsl #16\n\t" /* x2, x0 */
        "pkhbt  r4, r4, r6, lsl #16\n\t" /* x3, x1 */
        "and    r5, %[high], r3, lsl #8\n\t"
        "ssub16 r5, r5, r4\n\t"
        "smlad  %[sum], r3, %[ones], %[sum]\n\t"
        "strd   r4, r5, [%[words]], #8\n\t"
        "cmp    %[x], %[end]\n\t"
        "bne    1b"
        : [x] "+&r"(x), [words] "+&r"(words), [sum] "+&r"(even_sum)
        : [end] "r"(end), [inverse] "t"(inverse), [magic] "t"(EDGE_ROUND_MAGIC), [high] "r"(0xFF00FF00), [ones] "r"(0x00010001)
        : "r3", "r4", "r5", "r6", "s0", "s1", "s2", "s3", "cc", "memory");
    return even_sum;
}

EDGE_PART edge_row edge_quantize_dsp(const float *x, size_t count, uint32_t *words) {
    edge_row row = {0};
    size_t blocks = count / 4;
    float inverse = edge_inverse_scale(x, count, &row.scale);
    if (blocks > 0) row.even_sum = edge_quantize_blocks(x, blocks, inverse, words);
    if (count % 4) {
        float last[4] = {0};
        for (size_t j = 0; j < count % 4; j++) last[j] = x[4 * blocks + j];
        row.even_sum += edge_quantize_blocks(last, 1, inverse, words + 2 * blocks);
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

#define EDGE_DOTS_BLOCK_BYTES "56" /* of code: 14 instructions, all of 4 bytes */

/* Pushes what each group starts from: words in r1, blocks in r2, the value in r3 for all four sums, and in lr where so
 * many blocks enter the loop of EDGE_DOTS_GROUP, so that its last round is full. */
#define EDGE_DOTS_PUSH                                                                              \
    "rsb    lr, r2, #0\n\t"                                                                         \
    "and    lr, lr, #7\n\t"                                                                         \
    "mov    r9, #" EDGE_DOTS_BLOCK_BYTES "\n\t"                                                     \
    "mul    lr, lr, r9\n\t"                                                                         \
    "adr    r9, 1f\n\t"                                                                             \
    "add    lr, lr, r9\n\t"                                                                         \
    "orr    lr, lr, #1\n\t" /* Thumb */                                                            \
    "mov    r9, r3\n\t mov r10, r3\n\t mov r11, r3\n\t"                                             \
    "push   {r1, r2, r3, r9, r10, r11, lr}\n"

/* The sums of a group of 4 rows; r0 moves behind it. */
#define EDGE_DOTS_GROUP                                                                             \
    "ldmia  sp, {r1, r2, r3, r9, r10, r11, pc}\n\t"                                                 \
    ".balign 4\n"                                                                                   \
    "1:\n\t" EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK                        \
    EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK EDGE_DOTS_BLOCK                                 \
    "subs   r2, #8\n\t"                                                                             \
    "bgt    1b\n\t"

/* Adds a chunk of columns to dots[4 * groups]; groups > 0. A group's rows go on for skip bytes after the chunk. */
static inline void edge_add_chunk(const uint8_t *rows, const uint32_t *words, uint32_t blocks, edge_int *dots,
                                  uint32_t groups, uint32_t skip) {
    register const uint8_t *r0 __asm__("r0") = rows;
    register const uint32_t *r1 __asm__("r1") = words;
    register uint32_t r2 __asm__("r2") = blocks, r3 __asm__("r3") = 0;
    register edge_int *r4 __asm__("r4") = dots;
    register uint32_t r5 __asm__("r5") = groups, r6 __asm__("r6") = skip;
    __asm__ volatile(
        "push   {r4, r5, r6}\n\t" EDGE_DOTS_PUSH
        "0:\n\t" EDGE_DOTS_GROUP
        "ldr    r1, [sp, #28]\n\t"
        "ldmia  r1, {r4, r5, r6, r8}\n\t"
        "add    r4, r4, r3, asr #8\n\t"
        "add    r5, r5, r9, asr #8\n\t"
        "add    r6, r6, r10, asr #8\n\t"
        "add    r8, r8, r11, asr #8\n\t"
        "stmia  r1!, {r4, r5, r6, r8}\n\t"
        "ldrd   r2, r4, [sp, #32]\n\t"
        "add    r0, r0, r4\n\t"
        "subs   r2, #1\n\t"
        "strd   r1, r2, [sp, #28]\n\t"
        "bne    0b\n\t"
        "add    sp, #40"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6)
        :
        : "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

EDGE_PART void edge_dots_dsp(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                             edge_int *dots) {
    uint32_t pushed[10]; /* in the frame, so that the compiler's count of the stack covers what the assembly pushes */
    __asm__ volatile("" : : "r"(pushed));
    for (size_t i = 0; i < 4 * groups; i++) dots[i] = -128 * even_sum;
    for (size_t first = 0; groups > 0 && first < blocks; first += EDGE_CHUNK) {
        size_t chunk = blocks - first < EDGE_CHUNK ? blocks - first : EDGE_CHUNK;
        edge_add_chunk(rows + first * EDGE_BLOCK_BYTES, words + 2 * first, chunk, dots, groups,
                       (blocks - chunk) * EDGE_BLOCK_BYTES);
    }
}

/* Leaves the dots of a group in s0 to s3, exactly converted: VCVT divides the sums by 256 on the way. */
#define EDGE_SUMS_TO_FLOATS                                                                         \
    "vmov   s0, s1, r3, r9\n\t"                                                                     \
    "vmov   s2, s3, r10, r11\n\t"                                                                   \
    "vcvt.f32.s32 s0, s0, #8\n\t vcvt.f32.s32 s1, s1, #8\n\t"                                       \
    "vcvt.f32.s32 s2, s2, #8\n\t vcvt.f32.s32 s3, s3, #8\n\t"

/* Makes a function of rows in at most EDGE_CHUNK blocks, groups > 0: `finish` turns the dots of a group, in s0 to s3, into
 * 4 results, with a factor in s8 and with scales that r4 runs through. The sums start with what the 128 of even columns
 * add too much. */
#define EDGE_DOTS_FUNCTION(name, scale_type, result_type, finish)                                   \
    EDGE_PART void name(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks,   \
                        int32_t even_sum, const scale_type *scales, float factor, result_type *results) { \
        uint32_t pushed[10]; /* in the frame, so that the compiler's count of the stack covers it */ \
        __asm__ volatile("" : : "r"(pushed));                                                       \
        register const uint8_t *r0 __asm__("r0") = rows;                                            \
        register const uint32_t *r1 __asm__("r1") = words;                                          \
        register size_t r2 __asm__("r2") = blocks;                                                  \
        register int32_t r3 __asm__("r3") = -128 * 256 * even_sum;                                  \
        register const scale_type *r4 __asm__("r4") = scales;                                       \
        register result_type *r5 __asm__("r5") = results, *r6 __asm__("r6") = results + 4 * groups; \
        register float s8 __asm__("s8") = factor;                                                   \
        __asm__ volatile(                                                                           \
            "push   {r4, r5, r6}\n\t" EDGE_DOTS_PUSH                                                \
            "0:\n\t" EDGE_DOTS_GROUP EDGE_SUMS_TO_FLOATS                                            \
            "ldrd   r4, r5, [sp, #28]\n\t" finish                                                   \
            "ldr    r6, [sp, #36]\n\t"                                                              \
            "vstmia r5!, {s0-s3}\n\t"                                                               \
            "strd   r4, r5, [sp, #28]\n\t"                                                          \
            "cmp    r5, r6\n\t"                                                                     \
            "bne    0b\n\t"                                                                         \
            "add    sp, #40"                                                                        \
            : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6)                  \
            : "t"(s8)                                                                               \
            : "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cc", "memory"); \
    }

/* y[4 * groups] = dot * (factor * scale) */
EDGE_DOTS_FUNCTION(edge_short_scaled_dots, float, float,
    "vldmia r4!, {s4-s7}\n\t"
    "vmul.f32 s4, s8, s4\n\t vmul.f32 s5, s8, s5\n\t vmul.f32 s6, s8, s6\n\t vmul.f32 s7, s8, s7\n\t"
    "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t")

/* scores[4 * groups] = dot * scale * factor, as edge_fixed makes integers of floats */
EDGE_DOTS_FUNCTION(edge_short_scores, uint16_t, int32_t,
    "vldmia r4!, {s4-s5}\n\t"
    "vcvtb.f32.f16 s6, s5\n\t vcvtt.f32.f16 s7, s5\n\t vcvtt.f32.f16 s5, s4\n\t vcvtb.f32.f16 s4, s4\n\t"
    "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
    "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s8\n\t vmul.f32 s2, s2, s8\n\t vmul.f32 s3, s3, s8\n\t"
    "vcvt.s32.f32 s0, s0, #16\n\t vcvt.s32.f32 s1, s1, #16\n\t"
    "vcvt.s32.f32 s2, s2, #16\n\t vcvt.s32.f32 s3, s3, #16\n\t")

/* edge_scaled_dots of packed.h */
EDGE_PART void edge_scaled_dots_dsp(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks,
                                    edge_row row, const float *scales, float *y) {
    if (groups == 0) return;
    if (blocks <= EDGE_CHUNK) {
        edge_short_scaled_dots(rows, groups, words, blocks, row.even_sum, scales, row.scale, y);
    } else {
        edge_dots_dsp(rows, groups, words, blocks, row.even_sum, (edge_int *)y);
        edge_scale_dots(y, 4 * groups, row.scale, scales);
    }
}

/* edge_scores of packed.h; groups > 0 */
EDGE_PART void edge_scores_dsp(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks,
                               int32_t even_sum, const uint16_t *scales, float factor, int32_t *scores) {
    if (blocks <= EDGE_CHUNK) {
        edge_short_scores(rows, groups, words, blocks, even_sum, scales, factor, scores);
    } else {
        edge_dots_dsp(rows, groups, words, blocks, even_sum, scores);
        edge_fix_scores(scores, 4 * groups, scales, factor);
    }
}

/* SXTB16 twice a word: int16 weights leave no room for the trick with 256. */
#define EDGE_WEIGHTED_ROW(word, sum) "sxtb16 lr, " word "\n\t smlad  " sum ", lr, r12, " sum "\n\t"
#define EDGE_WEIGHTED_REST(word, sum)                                                               \
    "sxtb16 " word ", " word ", ror #8\n\t smlad  " sum ", " word ", r12, " sum "\n\t"
#define EDGE_WEIGHTED_BLOCK                                                                         \
    "ldmia  r0!, {r4, r5, r6, r8}\n\t"                                                              \
    "ldr    r12, [r1], #4\n\t"                                                                      \
    EDGE_WEIGHTED_ROW("r4", "r3") EDGE_WEIGHTED_ROW("r5", "r9")                                     \
    EDGE_WEIGHTED_ROW("r6", "r10") EDGE_WEIGHTED_ROW("r8", "r11")                                   \
    "ldr    r12, [r1], #4\n\t"                                                                      \
    EDGE_WEIGHTED_REST("r4", "r3") EDGE_WEIGHTED_REST("r5", "r9")                                   \
    EDGE_WEIGHTED_REST("r6", "r10") EDGE_WEIGHTED_REST("r8", "r11")

/* edge_weighted_sums of packed.h */
EDGE_PART void edge_weighted_sums_dsp(const uint8_t *rows, size_t groups, size_t group_bytes, const edge_weight *weights,
                                      size_t blocks, float factor, float *y) {
    uint32_t pushed[5]; /* in the frame, so that the compiler's count of the stack covers it */
    __asm__ volatile("" : : "r"(pushed));
    if (groups == 0) return;
    register const uint8_t *r0 __asm__("r0") = rows;
    register const edge_weight *r1 __asm__("r1") = weights;
    register size_t r2 __asm__("r2") = blocks, r3 __asm__("r3") = group_bytes - blocks * EDGE_BLOCK_BYTES;
    register float *r4 __asm__("r4") = y, *r5 __asm__("r5") = y + 4 * groups;
    register float s8 __asm__("s8") = factor;
    __asm__ volatile(
        "push   {r1, r2, r3, r4, r5}\n"
        "0:\n\t"
        "ldrd   r1, r2, [sp]\n\t"
        "mov    r3, #0\n\t mov r9, #0\n\t mov r10, #0\n\t mov r11, #0\n\t"
        "tst    r2, #1\n\t"
        "bne    2f\n"
        "1:\n\t" EDGE_WEIGHTED_BLOCK
        "2:\n\t" EDGE_WEIGHTED_BLOCK
        "subs   r2, #2\n\t"
        "bgt    1b\n\t"
        "vmov   s0, s1, r3, r9\n\t"
        "vmov   s2, s3, r10, r11\n\t"
        "vcvt.f32.s32 s0, s0\n\t vcvt.f32.s32 s1, s1\n\t vcvt.f32.s32 s2, s2\n\t vcvt.f32.s32 s3, s3\n\t"
        "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s8\n\t vmul.f32 s2, s2, s8\n\t vmul.f32 s3, s3, s8\n\t"
        "ldrd   r3, r4, [sp, #8]\n\t"
        "ldr    r5, [sp, #16]\n\t"
        "vstmia r4!, {s0-s3}\n\t"
        "add    r0, r0, r3\n\t"
        "cmp    r4, r5\n\t"
        "str    r4, [sp, #12]\n\t"
        "bne    0b\n\t"
        "add    sp, #20"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5)
        : "t"(s8)
        : "r6", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "cc", "memory");
}

#endif
