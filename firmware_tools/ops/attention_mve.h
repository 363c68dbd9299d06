/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Scores of all keys for one query on a core with Helium: the part of attention_mve.c that differs with a head's size. */
#ifndef EDGE_ATTENTION_MVE_H
#define EDGE_ATTENTION_MVE_H

#include <arm_mve.h>

#include "packed_mve.h"

/* Into each kernel, where the size of a head is a constant. */
#define INLINED static inline __attribute__((always_inline))
#define PART 8 /* positions of a part of the values: int16 lanes of a vector */

INLINED size_t padded(size_t head_dim) { return edge_blocks(head_dim) * 4; }

/* Makes scores of dots, those of even positions in q2, of odd ones in q0. A byte of scale << 7 is a half 2^6 too large,
 * which the conversion to fixed point makes up for. .inst: GNU as 2.40 gets the registers of VCVTB and VCVTT wrong. */
#define SCORE_PART                                                                                   \
    "vldrb.u16 q1, [%[scales]], #8\n\t"                                                              \
    "vcvt.f32.s32 q2, q2\n\t"                                                                        \
    "vshl.i16 q1, q1, #7\n\t"                                                                        \
    "vcvt.f32.s32 q0, q0\n\t"                                                                        \
    ".inst.w 0xFE3FEE03\n\t" /* vcvtb.f32.f16 q7, q1 */                                              \
    "vmul.f32 q2, q2, q7\n\t"                                                                        \
    ".inst.w 0xFE3FFE03\n\t" /* vcvtt.f32.f16 q7, q1 */                                              \
    "vmul.f32 q0, q0, q7\n\t"                                                                        \
    "vmul.f32 q2, q2, %[factor]\n\t"                                                                 \
    "vmul.f32 q0, q0, %[factor]\n\t"                                                                 \
    "vcvt.s32.f32 q2, q2, #1\n\t"                                                                    \
    "vcvt.s32.f32 q0, q0, #1\n\t"                                                                    \
    "vqmovnb.s32 q1, q2\n\t"                                                                         \
    "vqmovnt.s32 q1, q0\n\t"                                                                         \
    "vstrh.16 q1, [%[scores]], #16\n\t"

/* Whole parts, then the last, of which the word `last` has the positions that count. It ends as the largest score. */
#define SCORE_ALL(dots)                                                                              \
    "vctp.16 %[last]\n\t"                                                                            \
    "mov    %[last], #0x8000\n\t"                                                                    \
    "wls    lr, %[whole], 2f\n"                                                                      \
    "1:\n\t" dots SCORE_PART                                                                         \
    "vmaxv.s16 %[last], q1\n\t"                                                                      \
    "le     lr, 1b\n"                                                                                \
    "2:\n\t" dots SCORE_PART                                                                         \
    "vpst\n\t"                                                                                       \
    "vmaxvt.s16 %[last], q1\n\t"

#define MOVE_DOTS(q) "vmov   " q "[2], " q "[0], r0, r4\n\t vmov " q "[3], " q "[1], r2, r6\n\t"

/* Keys of 8 dimensions, two in a vector: the query is there for the first and for the second. */
#define DOTS_OF_8                                                                                    \
    "vldrw.u32 q0, [%[keys]], #16\n\t vldrw.u32 q1, [%[keys]], #16\n\t"                              \
    "vmladav.s8 r0, %q[a], q0\n\t vldrw.u32 q6, [%[keys]], #16\n\t"                                  \
    "vmladav.s8 r2, %q[a], q1\n\t vldrw.u32 q7, [%[keys]], #16\n\t"                                  \
    "vmladav.s8 r4, %q[a], q6\n\t vmladav.s8 r6, %q[a], q7\n\t" MOVE_DOTS("q2")                      \
    "vmladav.s8 r0, %q[b], q0\n\t vmladav.s8 r2, %q[b], q1\n\t"                                      \
    "vmladav.s8 r4, %q[b], q6\n\t vmladav.s8 r6, %q[b], q7\n\t" MOVE_DOTS("q0")
#define QUERY_OF_8 [a] "w"(vld1q_s8(query)), [b] "w"(vld1q_s8(query - 8))

/* Keys of one vector, of two, of four: first every other one, which leaves the pointer behind all 8. */
#define DOT(mac, sum, part, at) "vldrw.u32 q1, " at "\n\t" mac " " sum ", %q[" part "], q1\n\t"
#define FIRST "vmladav.s8"
#define THEN "vmladava.s8"

#define EVEN_16(sum) DOT(FIRST, sum, "a", "[%[keys]], #32")
#define ODD_16(sum, at) DOT(FIRST, sum, "a", "[%[keys], #" at "]")
#define DOTS_OF_16                                                                                   \
    EVEN_16("r0") EVEN_16("r2") EVEN_16("r4") EVEN_16("r6") MOVE_DOTS("q2")                          \
    ODD_16("r0", "-112") ODD_16("r2", "-80") ODD_16("r4", "-48") ODD_16("r6", "-16") MOVE_DOTS("q0")
#define QUERY_OF_16 [a] "w"(vld1q_s8(query))

#define EVEN_32(sum) DOT(FIRST, sum, "a", "[%[keys]], #16") DOT(THEN, sum, "b", "[%[keys]], #48")
#define ODD_32(sum, first, second)                                                                   \
    DOT(FIRST, sum, "a", "[%[keys], #" first "]") DOT(THEN, sum, "b", "[%[keys], #" second "]")
#define DOTS_OF_32                                                                                   \
    EVEN_32("r0") EVEN_32("r2") EVEN_32("r4") EVEN_32("r6") MOVE_DOTS("q2")                          \
    ODD_32("r0", "-224", "-208") ODD_32("r2", "-160", "-144") ODD_32("r4", "-96", "-80")             \
    ODD_32("r6", "-32", "-16") MOVE_DOTS("q0")
#define QUERY_OF_32 QUERY_OF_16, [b] "w"(vld1q_s8(query + 16))

#define EVEN_64(sum)                                                                                 \
    DOT(FIRST, sum, "a", "[%[keys]], #16") DOT(THEN, sum, "b", "[%[keys]], #16")                     \
    DOT(THEN, sum, "c", "[%[keys]], #16") DOT(THEN, sum, "d", "[%[keys]], #80")
#define ODD_64(sum, first, second, third, fourth)                                                    \
    ODD_32(sum, first, second)                                                                       \
    DOT(THEN, sum, "c", "[%[keys], #" third "]") DOT(THEN, sum, "d", "[%[keys], #" fourth "]")
#define DOTS_OF_64                                                                                   \
    EVEN_64("r0") EVEN_64("r2") EVEN_64("r4") EVEN_64("r6") MOVE_DOTS("q2")                          \
    ODD_64("r0", "-448", "-432", "-416", "-400") ODD_64("r2", "-320", "-304", "-288", "-272")        \
    ODD_64("r4", "-192", "-176", "-160", "-144") ODD_64("r6", "-64", "-48", "-32", "-16") MOVE_DOTS("q0")
#define QUERY_OF_64 QUERY_OF_32, [c] "w"(vld1q_s8(query + 32)), [d] "w"(vld1q_s8(query + 48))

/* scores[count] of keys; returns the largest. */
#define SCORE_FUNCTION(size, ...)                                                                    \
    INLINED int16_t score_##size(const int8_t *keys, size_t count, const int8_t *query, const uint8_t *scales, \
                                 float factor, int16_t *scores) {                                    \
        uint32_t last = (count - 1) % PART + 1;                                                      \
        __asm__ volatile(SCORE_ALL(DOTS_OF_##size)                                                   \
                         : [keys] "+r"(keys), [scales] "+l"(scales), [scores] "+r"(scores), [last] "+r"(last) \
                         : [whole] "r"((count - 1) / PART), [factor] "r"(edge_float_bits(factor)), QUERY_OF_##size \
                         : __VA_ARGS__ "r0", "r2", "r4", "r6", "q0", "q1", "q2", "q7", "lr", "cc", "memory"); \
        return (int16_t)last;                                                                        \
    }

SCORE_FUNCTION(8, "q6",)
SCORE_FUNCTION(16, )
SCORE_FUNCTION(32, )
SCORE_FUNCTION(64, )

/* The dots of every other one of 8 keys of any size. */
INLINED int32x4_t dots_of_any(const int8_t *keys, size_t stride, const int8_t *query) {
    int32_t dots[4] = {0};
    for (size_t r = 0; r < 4; r++, keys += 2 * stride)
        for (size_t d = 0; d < stride; d += EDGE_LANES)
            dots[r] = vmladavaq_s8(dots[r], vld1q_s8(keys + d), vld1q_s8(query + d));
    return vld1q_s32(dots);
}

INLINED int16_t score_any(const int8_t *keys, size_t count, size_t stride, const int8_t *query, const uint8_t *scales,
                          float factor, int16_t *scores) {
    uint32_t last = (count - 1) % PART + 1, largest = 0x8000;
    for (size_t parts = (count - 1) / PART + 1; parts--; keys += PART * stride) {
        int32x4_t even = dots_of_any(keys, stride, query), odd = dots_of_any(keys + stride, stride, query);
        uint32_t lanes = parts ? PART : last;
        __asm__ volatile("vmov q2, %q[even]\n\t vmov q0, %q[odd]\n\t" SCORE_PART
                         "vctp.16 %[lanes]\n\t vpst\n\t vmaxvt.s16 %[largest], q1"
                         : [scales] "+l"(scales), [scores] "+r"(scores), [largest] "+r"(largest)
                         : [lanes] "r"(lanes), [factor] "r"(edge_float_bits(factor)), [even] "w"(even), [odd] "w"(odd)
                         : "q0", "q1", "q2", "q7", "memory");
    }
    return (int16_t)largest;
}

INLINED int16_t score(const int8_t *keys, size_t count, size_t head_dim, const int8_t *query, const uint8_t *scales,
                      float factor, int16_t *scores) {
    if (head_dim == 8) return score_8(keys, count, query, scales, factor, scores);
    if (head_dim == 16) return score_16(keys, count, query, scales, factor, scores);
    if (head_dim == 32) return score_32(keys, count, query, scales, factor, scores);
    if (head_dim == 64) return score_64(keys, count, query, scales, factor, scores);
    return score_any(keys, count, padded(head_dim), query, scales, factor, scores);
}

#endif
