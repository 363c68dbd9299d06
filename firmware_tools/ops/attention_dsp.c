/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "attention_s8.h"
#include "packed_dsp.h"

/* edge_top of attention_s8.h, two positions at once: USUB16 notes for each half whether it is larger, SEL takes it. */
EDGE_PART uint32_t edge_top_dsp(const uint16_t *scales, size_t count) {
    const uint16x2_t *pairs = (const void *)scales;
    uint16x2_t top = 0;
    for (size_t t = 0; t < count / 2; t++) {
        (void)__usub16(pairs[t], top);
        top = (uint16x2_t)__sel((uint8x4_t)pairs[t], (uint8x4_t)top);
    }
    uint32_t low = top & 0xFFFF, high = top >> 16, last = count % 2 ? scales[count - 1] : 0;
    uint32_t larger = low > high ? low : high;
    return last > larger ? last : larger;
}

/* edge_find_factors of attention_s8.h, to the end of the last 4 positions, whose factors nobody reads. */
EDGE_PART void edge_find_factors_dsp(const uint16_t *value_scales, size_t count, float inverse, int32_t *value_factors) {
    const int32_t *end = value_factors + edge_blocks(count) * 4;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[scales]!, {s4-s5}\n\t"
        "vcvtb.f32.f16 s0, s4\n\t vcvtt.f32.f16 s1, s4\n\t vcvtb.f32.f16 s2, s5\n\t vcvtt.f32.f16 s3, s5\n\t"
        "vmul.f32 s0, s0, %[inverse]\n\t vmul.f32 s1, s1, %[inverse]\n\t"
        "vmul.f32 s2, s2, %[inverse]\n\t vmul.f32 s3, s3, %[inverse]\n\t"
        "vcvt.s32.f32 s0, s0\n\t vcvt.s32.f32 s1, s1\n\t vcvt.s32.f32 s2, s2\n\t vcvt.s32.f32 s3, s3\n\t"
        "vstmia %[factors]!, {s0-s3}\n\t"
        "cmp    %[factors], %[end]\n\t"
        "bne    1b"
        : [scales] "+&r"(value_scales), [factors] "+&r"(value_factors)
        : [inverse] "t"(inverse), [end] "r"(end)
        : "s0", "s1", "s2", "s3", "s4", "s5", "cc", "memory");
}

/* edge_largest_score of attention_s8.h. Four scores are compared in one go: seldom is one of them larger. */
EDGE_PART int32_t edge_largest_score_dsp(const int32_t *scores, size_t count) {
    const int32_t *end = scores + count / 4 * 4;
    int32_t largest = INT32_MIN, last;
    if (scores != end)
        __asm__ volatile(
            "1:\n\t"
            "ldmia  %[scores]!, {r3, r4, r5, r6}\n\t"
            "cmp    r3, %[largest]\n\t"
            "ittt   le\n\t"
            "cmple  r4, %[largest]\n\t"
            "cmple  r5, %[largest]\n\t"
            "cmple  r6, %[largest]\n\t"
            "ble    2f\n\t"
            "cmp    r3, r4\n\t it lt\n\t movlt r3, r4\n\t"
            "cmp    r3, r5\n\t it lt\n\t movlt r3, r5\n\t"
            "cmp    r3, r6\n\t it lt\n\t movlt r3, r6\n\t"
            "mov    %[largest], r3\n"
            "2:\n\t"
            "cmp    %[scores], %[end]\n\t"
            "bne    1b"
            : [scores] "+&r"(scores), [largest] "+&r"(largest)
            : [end] "r"(end)
            : "r3", "r4", "r5", "r6", "cc", "memory");
    last = edge_largest_score(scores, count % 4);
    return last > largest ? last : largest;
}

/* Makes a score, the register a, its weight; the factor is in the register b. QSUB, and USAT of steps, keep inside the
 * table what lies far behind the largest score. */
#define EDGE_WEIGH(a, b)                                                                             \
    "qsub   " a ", %[largest], " a "\n\t"                                                            \
    "usat   " a ", #10, " a ", asr #10\n\t"                                                          \
    "ldrh   " a ", [%[table], " a ", lsl #1]\n\t"                                                    \
    "add    %[sum], %[sum], " a "\n\t"                                                               \
    "smmulr " a ", " a ", " b "\n\t"

/* Leaves the weights of 2 scores in the register a. */
#define EDGE_WEIGH_PAIR(a, b)                                                                        \
    "ldrd   " a ", " b ", [%[scores]], #8\n\t"                                                       \
    "ldrd   r6, r8, [%[factors]], #8\n\t" EDGE_WEIGH(a, "r6") EDGE_WEIGH(b, "r8")                    \
    "pkhbt  " a ", " a ", " b ", lsl #16\n\t"

/* edge_weigh of attention_s8.h. */
EDGE_PART uint32_t edge_weigh_dsp(const int32_t *scores, size_t count, int32_t largest, const int32_t *value_factors,
                                  edge_weight *weights) {
    const int32_t *end = scores + count / 4 * 4;
    uint32_t sum = 0;
    if (scores != end)
        __asm__ volatile(
            "1:\n\t" EDGE_WEIGH_PAIR("r3", "r4") EDGE_WEIGH_PAIR("r4", "r5")
            "cmp    %[scores], %[end]\n\t"
            "strd   r3, r4, [%[weights]], #8\n\t"
            "bne    1b"
            : [scores] "+&r"(scores), [factors] "+&r"(value_factors), [weights] "+&r"(weights), [sum] "+&r"(sum)
            : [largest] "r"(largest), [table] "r"(edge_exp2_table), [end] "r"(end)
            : "r3", "r4", "r5", "r6", "r8", "cc", "memory");
    return sum + edge_weigh(scores, count % 4, largest, value_factors, weights);
}

void edge_attention_s8_dsp(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           size_t count, void *cache, void *workspace) {
    edge_core core = {edge_quantize_dsp,      edge_scores_dsp, edge_top_dsp,          edge_find_factors_dsp,
                      edge_largest_score_dsp, edge_weigh_dsp,  edge_weighted_sums_dsp};
    edge_attend_s8(core, position, qkv, y, shape, count, cache, workspace);
}
