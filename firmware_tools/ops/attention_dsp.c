/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Two query heads of a group at a time, so that both use what is loaded of the cache and taken apart; where a group has an
 * odd head it is computed twice. firmware_tools/ops/attention.py gives the arithmetic, packed.py the trick of the dots.
 *
 * Scores, and then weights, of heads A and B lie as A0 A1 B0 B1 A2 A3 B2 B3, the numbers being positions. A block of 4
 * dimensions of both queries is 4 words, for each head the two of packed_dsp.h. Where the positions do not fill their last
 * block of 4, the rest of it repeats the newest one: that changes no maximum, and its weights are made 0. */
#include "attention_s8.h"
#include "packed_dsp.h"

EDGE_QUANTIZER(quantize_pair_blocks, EDGE_TWO_WORDS "strd   r4, r5, [%[words]], #16\n\t")
EDGE_QUANTIZER(quantize_byte_blocks,
               "bfi    r3, r4, #8, #8\n\t bfi    r3, r5, #16, #8\n\t bfi    r3, r6, #24, #8\n\t str    r3, [%[words]], #4\n\t")

/* relative[4 * blocks] = key - base, blocks > 0. */
static inline void subtract_blocks(const float *key, const uint16_t *base, float *relative, size_t blocks) {
    const float *end = relative + 4 * blocks;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[key]!, {s0-s3}\n\t"
        "vldmia %[base]!, {s4-s5}\n\t"
        "vcvtb.f32.f16 s8, s4\n\t vcvtt.f32.f16 s9, s4\n\t vcvtb.f32.f16 s10, s5\n\t vcvtt.f32.f16 s11, s5\n\t"
        "vsub.f32 s0, s0, s8\n\t vsub.f32 s1, s1, s9\n\t vsub.f32 s2, s2, s10\n\t vsub.f32 s3, s3, s11\n\t"
        "vstmia %[relative]!, {s0-s3}\n\t"
        "cmp    %[relative], %[end]\n\t"
        "bne    1b"
        : [key] "+&r"(key), [base] "+&r"(base), [relative] "+&r"(relative)
        : [end] "r"(end)
        : "s0", "s1", "s2", "s3", "s4", "s5", "s8", "s9", "s10", "s11", "cc", "memory");
}

/* Quantizes a row for the cache into bytes; returns its scale. */
EDGE_PART uint8_t quantize_bytes(const float *x, size_t count, uint32_t *words) {
    uint8_t scale;
    float inverse = edge_inverse_byte_of(edge_largest_dsp(x, count), &scale);
    edge_quantize_row(quantize_byte_blocks, x, count, inverse, words, 1);
    return scale;
}

/* Writes a row of keys, and the same for the rest of its 4 positions. */
static inline void store_key(size_t head_dim, edge_kv_head kv, uint32_t position, const float *key, float *relative,
                             uint32_t *words) {
    size_t blocks = edge_blocks(head_dim), whole = head_dim / 4;
    if (position == 0) {
        EDGE_ROLLED
        for (size_t d = 0; d < head_dim; d++) kv.base[d] = edge_half_bits(key[d]);
    }
    if (whole) subtract_blocks(key, kv.base, relative, whole);
    for (size_t d = 4 * whole; d < head_dim; d++) relative[d] = key[d] - edge_half_to_float(kv.base[d]);
    uint8_t scale = quantize_bytes(relative, head_dim, words);
    uint32_t *at = (uint32_t *)(void *)kv.keys + position / 4 * blocks * 4 + position % 4;
    for (; ; position++, at++) {
        kv.key_scales[position] = scale;
        EDGE_ROLLED
        for (size_t b = 0; b < blocks; b++) at[4 * b] = words[b] ^ 0x00800080u; /* even columns are stored 128 too large */
        if (position % 4 == 3) break;
    }
}

static inline void store_value(size_t head_dim, size_t group_bytes, edge_kv_head kv, uint32_t position, const float *value,
                               uint32_t *words) {
    uint8_t scale = quantize_bytes(value, head_dim, words);
    uint32_t column = (position & 1) << 1 | (position >> 1 & 1); /* 1 and 2 change places, for SXTB16 */
    uint8_t *at = kv.values + position / 4 * EDGE_BLOCK_BYTES + column;
    EDGE_ROLLED
    for (size_t b = 0; b < edge_blocks(head_dim); b++, at += group_bytes) {
        uint32_t word = words[b];
        at[0] = (uint8_t)word, at[4] = (uint8_t)(word >> 8), at[8] = (uint8_t)(word >> 16), at[12] = (uint8_t)(word >> 24);
    }
    do kv.value_scales[position] = scale;
    while (position++ % 4 != 3);
}

/* The largest exponent among blocks * 4 scales: USUB8 notes for each byte whether it is larger, SEL takes it. */
EDGE_PART uint32_t find_top(const uint8_t *scales, size_t blocks) {
    const uint32_t *words = (const void *)scales;
    uint32_t top = 0;
    for (size_t b = 0; b < blocks; b++) {
        (void)__usub8(words[b], top);
        top = __sel(words[b], top);
    }
    top >>= 3;
    uint32_t low = top & 31, second = top >> 8 & 31, third = top >> 16 & 31, high = top >> 24;
    low = low > second ? low : second;
    high = high > third ? high : third;
    return low > high ? low : high;
}

/* What edge_scores of both heads needs beside keys and queries; the first two move on, largest comes back. */
typedef struct {
    const uint8_t *scales;
    int16_t *scores;
    uint32_t mask; /* of the halves that bytes of scale make */
    const int16_t *end;
    uint32_t largest[2]; /* of each head, in both halves */
    int32_t start[2];    /* of the sums of each head: what the 128 of even columns add too much, the other way round */
    uint32_t more_blocks;
} scoring;

#define FIRST_SUMS                                                                                  \
    "smlad  r3, r12, r4, r2\n\t smlad  r9, lr, r4, r2\n\t"                                          \
    "smlad  r10, r12, r6, r7\n\t smlad  r11, lr, r6, r7\n\t"
#define MORE_SUMS                                                                                   \
    "smlad  r3, r12, r4, r3\n\t smlad  r9, lr, r4, r9\n\t"                                          \
    "smlad  r10, r12, r6, r10\n\t smlad  r11, lr, r6, r11\n\t"
#define EVEN_SUMS                                                                                   \
    "uxtb16 r12, r12\n\t uxtb16 lr, lr\n\t"                                                         \
    "smlad  r3, r12, r5, r3\n\t smlad  r9, lr, r5, r9\n\t"                                          \
    "smlad  r10, r12, r8, r10\n\t smlad  r11, lr, r8, r11\n\t"

/* The sums of 2 positions with both heads in r3, r9 (A), r10 and r11 (B). r1 is in the middle of 2 blocks of words. */
#define SUMS_OF_TWO_BLOCKS(first, second)                                                           \
    "ldrd   r12, lr, [r0, #" first "]\n\t"                                                          \
    "ldmdb  r1, {r4, r5, r6, r8}\n\t" FIRST_SUMS EVEN_SUMS                                          \
    "ldrd   r12, lr, [r0, #" second "]\n\t"                                                         \
    "ldmia  r1, {r4, r5, r6, r8}\n\t" MORE_SUMS EVEN_SUMS

/* Likewise of any number of blocks, with r1 at the first. */
#define SUMS_OF_BLOCKS(back)                                                                        \
    "ldrd   r12, lr, [r0], #16\n\t"                                                                 \
    "ldmia  r1!, {r4, r5, r6, r8}\n\t" FIRST_SUMS EVEN_SUMS                                         \
    "ldr    r2, [sp, #32]\n\t"                                                                      \
    "lsl    r4, r2, #4\n\t"                                                                         \
    "cbz    r2, 3f\n"                                                                               \
    "2:\n\t"                                                                                        \
    "ldrd   r12, lr, [r0], #16\n\t"                                                                 \
    "ldmia  r1!, {r4, r5, r6, r8}\n\t" MORE_SUMS EVEN_SUMS                                          \
    "subs   r2, #1\n\t"                                                                             \
    "bne    2b\n"                                                                                   \
    "3:\n\t"                                                                                        \
    "ldr    r2, [sp, #32]\n\t"                                                                      \
    "sub    r1, r1, #16\n\t"                                                                        \
    "sub    r1, r1, r2, lsl #4\n\t" back                                                            \
    "ldr    r2, [sp, #24]\n\t"

#define BACK_TO_SECOND "sub    r0, r0, #8\n\t sub    r0, r0, r2, lsl #4\n\t"
#define ON_TO_NEXT "sub    r0, r0, #8\n\t"

/* Scores of 4 positions and more with both heads, times the factors in s14 and s15, and the largest of them. */
#define SCORING_FUNCTION(name, first_sums, second_sums)                                             \
    EDGE_PART void name(const uint8_t *keys, const uint32_t *words, float factor_a, float factor_b, scoring *state) { \
        register const uint8_t *r0 __asm__("r0") = keys;                                            \
        register const uint32_t *r1 __asm__("r1") = words;                                          \
        register scoring *r2 __asm__("r2") = state;                                                 \
        register float s14 __asm__("s14") = factor_a;                                               \
        register float s15 __asm__("s15") = factor_b;                                               \
        __asm__ volatile(                                                                           \
            "push   {r2, r7}\n\t"                                                                   \
            "ldmia  r2, {r3, r4, r5, r6, r8, r9, r10, r11, r12}\n\t"                                \
            "push   {r3, r4, r5, r6, r8, r9, r10, r11, r12}\n\t"                                    \
            "mov    r2, r10\n\t mov    r7, r11\n"                                                   \
            "1:\n\t" first_sums                                                                     \
            "vmov   s0, s1, r3, r9\n\t vmov   s2, s3, r10, r11\n\t" second_sums                     \
            "vmov   s4, s5, r3, r9\n\t vmov   s6, s7, r10, r11\n\t"                                 \
            "ldmia  sp, {r3, r4, r5, r6, r12, lr}\n\t"                                              \
            "ldr    r8, [r3], #4\n\t"                                                               \
            "and    r9, r5, r8, lsl #7\n\t and    r8, r5, r8, lsr #1\n\t"                           \
            "vmov   s12, s13, r9, r8\n\t"                                                           \
            "vcvtb.f32.f16 s8, s12\n\t vcvtb.f32.f16 s9, s13\n\t"                                   \
            "vcvtt.f32.f16 s10, s12\n\t vcvtt.f32.f16 s11, s13\n\t"                                 \
            EACH_SCORE("vcvt.f32.s32", ", #8")                                                      \
            "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s9\n\t vmul.f32 s2, s2, s8\n\t vmul.f32 s3, s3, s9\n\t" \
            "vmul.f32 s4, s4, s10\n\t vmul.f32 s5, s5, s11\n\t vmul.f32 s6, s6, s10\n\t vmul.f32 s7, s7, s11\n\t" \
            "vmul.f32 s0, s0, s14\n\t vmul.f32 s1, s1, s14\n\t vmul.f32 s4, s4, s14\n\t vmul.f32 s5, s5, s14\n\t" \
            "vmul.f32 s2, s2, s15\n\t vmul.f32 s3, s3, s15\n\t vmul.f32 s6, s6, s15\n\t vmul.f32 s7, s7, s15\n\t" \
            EACH_SCORE("vcvt.s16.f32", ", #7")                                                      \
            "vmov   r8, r9, s0, s1\n\t pkhbt  r8, r8, r9, lsl #16\n\t"                              \
            "vmov   r9, r10, s2, s3\n\t pkhbt  r9, r9, r10, lsl #16\n\t"                            \
            "vmov   r10, r11, s4, s5\n\t pkhbt  r10, r10, r11, lsl #16\n\t"                         \
            "vmov   r11, r5, s6, s7\n\t pkhbt  r11, r11, r5, lsl #16\n\t"                           \
            "stmia  r4!, {r8, r9, r10, r11}\n\t"                                                    \
            "ssub16 r5, r12, r8\n\t sel    r12, r12, r8\n\t"                                        \
            "ssub16 r5, r12, r10\n\t sel    r12, r12, r10\n\t"                                      \
            "ssub16 r5, lr, r9\n\t sel    lr, lr, r9\n\t"                                           \
            "ssub16 r5, lr, r11\n\t sel    lr, lr, r11\n\t"                                         \
            "cmp    r4, r6\n\t"                                                                     \
            "strd   r3, r4, [sp]\n\t"                                                               \
            "strd   r12, lr, [sp, #16]\n\t"                                                         \
            "bne    1b\n\t"                                                                         \
            "add    sp, #36\n\t"                                                                    \
            "pop    {r2, r7}\n\t"                                                                   \
            "strd   r12, lr, [r2, #16]"                                                             \
            : "+r"(r0), "+r"(r1), "+r"(r2)                                                          \
            : "t"(s14), "t"(s15)                                                                    \
            : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5", \
              "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "cc", "memory");                  \
    }

#define EACH_SCORE(convert, bits)                                                                   \
    convert " s0, s0" bits "\n\t" convert " s1, s1" bits "\n\t" convert " s2, s2" bits "\n\t"       \
    convert " s3, s3" bits "\n\t" convert " s4, s4" bits "\n\t" convert " s5, s5" bits "\n\t"       \
    convert " s6, s6" bits "\n\t" convert " s7, s7" bits "\n\t"

SCORING_FUNCTION(score_two_blocks, SUMS_OF_TWO_BLOCKS("0", "16"),
                 SUMS_OF_TWO_BLOCKS("8", "24") "add    r0, r0, #32\n\t")
SCORING_FUNCTION(score_blocks, SUMS_OF_BLOCKS(BACK_TO_SECOND), SUMS_OF_BLOCKS(ON_TO_NEXT))

/* Makes weights of 2 positions' scores of one head in the register a, with the factors in r3 and r4; r5 is free. SHSUB16
 * does not overflow, USAT16 keeps inside the table what lies far behind the largest score. */
#define WEIGH(a, largest, sum)                                                                      \
    "shsub16 " a ", " largest ", " a "\n\t"                                                         \
    "usat16 " a ", #10, " a "\n\t"                                                                  \
    "uxth   r5, " a "\n\t"                                                                          \
    "lsr    " a ", " a ", #16\n\t"                                                                  \
    "ldrh   r5, [%[table], r5, lsl #1]\n\t"                                                         \
    "ldrh   " a ", [%[table], " a ", lsl #1]\n\t"                                                   \
    "add    " sum ", " sum ", r5\n\t"                                                               \
    "add    " sum ", " sum ", " a "\n\t"                                                            \
    "smmulr r5, r5, r3\n\t"                                                                         \
    "smmulr " a ", " a ", r4\n\t"                                                                   \
    "pkhbt  " a ", r5, " a ", lsl #16\n\t"

#define WEIGH_BOTH(factors)                                                                         \
    "vmov   r3, r4, " factors "\n\t"                                                                \
    "ldrd   r6, r8, [%[scores]]\n\t"                                                                \
    WEIGH("r6", "%[largest_a]", "%[sum_a]") WEIGH("r8", "%[largest_b]", "%[sum_b]")                 \
    "strd   r6, r8, [%[scores]], #8\n\t"

/* Makes weights of the scores of both heads, blocks of 4 positions of them; sums[2] receives those of e in 2^-16. Bytes of
 * scale become halves with the largest exponent at 30 or, in long contexts, less, and those integers. */
EDGE_PART void weigh_both(int16_t *scores, size_t blocks, const uint32_t *largest, const uint8_t *scales, uint32_t bias,
                          uint32_t *sums) {
    const int16_t *end = scores + 8 * blocks;
    register uint32_t sum_a __asm__("r9") = 0, sum_b __asm__("r10") = 0;
    register float s6 __asm__("s6") = edge_bits_float(bias * 0x01010101u), s7 __asm__("s7") = edge_bits_float(0x7F807F80u);
    __asm__ volatile(
        "1:\n\t"
        "ldr    r5, [%[scales]], #4\n\t"
        "vmov   r3, r4, s6, s7\n\t"
        "uqadd8 r5, r5, r3\n\t"
        "and    r3, r4, r5, lsl #7\n\t and    r4, r4, r5, lsr #1\n\t"
        "vmov   s4, s5, r3, r4\n\t"
        "vcvtb.f32.f16 s0, s4\n\t vcvtb.f32.f16 s1, s5\n\t vcvtt.f32.f16 s2, s4\n\t vcvtt.f32.f16 s3, s5\n\t"
        "vcvt.s32.f32 s0, s0, #15\n\t vcvt.s32.f32 s1, s1, #15\n\t"
        "vcvt.s32.f32 s2, s2, #15\n\t vcvt.s32.f32 s3, s3, #15\n\t"
        WEIGH_BOTH("s0, s1") WEIGH_BOTH("s2, s3")
        "cmp    %[scores], %[end]\n\t"
        "bne    1b"
        : [scores] "+&r"(scores), [scales] "+&r"(scales), [sum_a] "+&r"(sum_a), [sum_b] "+&r"(sum_b)
        : [largest_a] "r"(largest[0]), [largest_b] "r"(largest[1]), [table] "r"(edge_exp2_table), [end] "r"(end),
          "t"(s6), "t"(s7)
        : "r3", "r4", "r5", "r6", "r8", "s0", "s1", "s2", "s3", "s4", "s5", "cc", "memory");
    sums[0] = sum_a, sums[1] = sum_b;
}

/* 4 positions of 2 dimensions, in r12 and lr, with the weights of both heads: SXTB16 twice a word, as int16 weights leave
 * no room for the trick of the dots. */
#define VALUE_BLOCK                                                                                 \
    "ldrd   r12, lr, [r0], #16\n\t"                                                                 \
    "ldmia  r1!, {r4, r5, r6, r8}\n\t"                                                              \
    "sxtb16 r7, r12\n\t smlad  r3, r7, r4, r3\n\t smlad  r10, r7, r5, r10\n\t"                      \
    "sxtb16 r12, r12, ror #8\n\t smlad  r3, r12, r6, r3\n\t smlad  r10, r12, r8, r10\n\t"           \
    "sxtb16 r7, lr\n\t smlad  r9, r7, r4, r9\n\t smlad  r11, r7, r5, r11\n\t"                       \
    "sxtb16 lr, lr, ror #8\n\t smlad  r9, lr, r6, r9\n\t smlad  r11, lr, r8, r11\n\t"

/* y_a and y_b, 2 * pairs dimensions each: dots of values and weights, times the factors. */
EDGE_PART void sum_both(const uint8_t *values, const int16_t *weights, size_t blocks, size_t group_bytes, size_t pairs,
                        float factor_a, float factor_b, float *y_a, float *y_b) {
    uint32_t state[] = {(uint32_t)weights, blocks, 8 - EDGE_BLOCK_BYTES * blocks,
                        group_bytes - 8 - EDGE_BLOCK_BYTES * blocks, (uint32_t)y_a, (uint32_t)y_b,
                        (uint32_t)(y_a + 2 * pairs)};
    register const uint8_t *r0 __asm__("r0") = values;
    register uint32_t *r1 __asm__("r1") = state;
    register float s14 __asm__("s14") = factor_a;
    register float s15 __asm__("s15") = factor_b;
    __asm__ volatile(
        "push   {r7}\n\t"
        "ldmia  r1, {r2, r3, r4, r5, r6, r8, r9}\n\t"
        "push   {r2, r3, r4, r5, r6, r8, r9}\n"
        "0:\n\t"
        "ldrd   r1, r2, [sp]\n\t"
        "mov    r3, #0\n\t mov    r9, #0\n\t mov    r10, #0\n\t mov    r11, #0\n\t"
        "tst    r2, #1\n\t"
        "bne    2f\n"
        "1:\n\t" VALUE_BLOCK
        "2:\n\t" VALUE_BLOCK
        "subs   r2, #2\n\t"
        "bgt    1b\n\t"
        "vmov   s0, s1, r3, r9\n\t vmov   s2, s3, r10, r11\n\t"
        "vcvt.f32.s32 s0, s0\n\t vcvt.f32.s32 s1, s1\n\t vcvt.f32.s32 s2, s2\n\t vcvt.f32.s32 s3, s3\n\t"
        "vmul.f32 s0, s0, s14\n\t vmul.f32 s1, s1, s14\n\t vmul.f32 s2, s2, s15\n\t vmul.f32 s3, s3, s15\n\t"
        "add    r1, sp, #8\n\t"
        "ldmia  r1, {r2, r3, r4, r5, r6}\n\t"
        "add    r0, r0, r2\n\t"
        "vstmia r4!, {s0-s1}\n\t vstmia r5!, {s2-s3}\n\t"
        "strd   r3, r2, [sp, #8]\n\t strd   r4, r5, [sp, #16]\n\t"
        "cmp    r4, r6\n\t"
        "bne    0b\n\t"
        "add    sp, #28\n\t"
        "pop    {r7}"
        : "+r"(r0), "+r"(r1)
        : "t"(s14), "t"(s15)
        : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "cc", "memory");
}

/* Where the parts of the workspace lie: rows of head_dim, filled up to 4, then words and scores of two heads. */
typedef struct {
    float *relative, *other;
    uint32_t *words;
    int16_t *scores;
} scratch;

/* What query heads of a group share beside their kv head. */
typedef struct {
    size_t count;
    uint32_t top;
} filled;

/* The larger half, in both. */
static inline uint32_t spread(uint32_t pair) {
    int32_t low = (int16_t)pair, high = (int32_t)pair >> 16;
    uint32_t larger = (uint32_t)(low > high ? low : high) & 0xFFFF;
    return larger << 16 | larger;
}

/* What the rest of the last block of scores will add to the sums, being the newest position's again. */
static inline void find_left_out(int16_t *last, size_t rest, const uint32_t *largest, uint32_t *left_out) {
    for (size_t h = 0; h < 2; h++) {
        int32_t step = ((int16_t)largest[h] - last[5 + 2 * h]) >> 1;
        left_out[h] = rest * edge_exp2_table[step < EDGE_LAST_STEP ? step : EDGE_LAST_STEP];
    }
}

static inline __attribute__((always_inline)) void attend_pair(const float *const *queries, float *const *y, size_t head_dim,
                               const edge_attention_shape *shape, edge_kv_head kv, filled filled, scratch s) {
    size_t columns = edge_blocks(head_dim), blocks = edge_blocks(filled.count), rest = 4 * blocks - filled.count;
    int16_t *last = s.scores + 8 * (blocks - 1);
    uint32_t sums[2], left_out[2] = {0};
    float factors[2];
    scoring state = {kv.key_scales, s.scores, 0x7F807F80u, s.scores + 8 * blocks, {0x80008000u, 0x80008000u}, {0}, columns - 1};
    EDGE_ROLLED
    for (size_t h = 0; h < 2; h++) {
        float scale, inverse = edge_inverse_of(edge_largest_dsp(queries[h], head_dim), &scale);
        state.start[h] = -128 * 256 * edge_quantize_row(quantize_pair_blocks, queries[h], head_dim, inverse, s.words + 2 * h, 4);
        factors[h] = scale * shape->scale * 0x1p-6f; /* a byte's half is 2^6 times the scale */
    }
    if (columns == 2)
        score_two_blocks(kv.keys, s.words + 4, factors[0], factors[1], &state);
    else
        score_blocks(kv.keys, s.words, factors[0], factors[1], &state);
    EDGE_ROLLED
    for (size_t h = 0; h < 2; h++) state.largest[h] = spread(state.largest[h]);
    if (rest) find_left_out(last, rest, state.largest, left_out);
    weigh_both(s.scores, blocks, state.largest, kv.value_scales, (30 - filled.top - shape->weight_shift) << 3, sums);
    EDGE_ROLLED
    for (size_t t = 4 - rest; t < 4; t++) last[(t / 2) * 4 + t % 2] = last[(t / 2) * 4 + t % 2 + 2] = 0;
    float unit = edge_bits_float((filled.top + 127 - 19 + shape->weight_shift) << 23);
    EDGE_ROLLED
    for (size_t h = 0; h < 2; h++) factors[h] = unit / (float)(sums[h] - left_out[h]);
    sum_both(kv.values, s.scores, blocks, edge_blocks(shape->context) * EDGE_BLOCK_BYTES, (head_dim + 1) / 2, factors[0],
             factors[1], y[0], y[1]);
}

static inline __attribute__((always_inline)) void attend_token(uint32_t position, const float *qkv, float *y, size_t head_dim,
                                const edge_attention_shape *shape, void *cache, void *workspace) {
    size_t columns = edge_blocks(head_dim) * 4, group = shape->heads / shape->kv_heads;
    scratch s = {workspace, (float *)workspace + columns, (uint32_t *)workspace + 2 * columns,
                 (int16_t *)workspace + 6 * columns};
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, key += head_dim, value += head_dim) {
        edge_kv_head kv = edge_find_kv_head(shape, cache, g);
        store_key(head_dim, kv, position, key, s.relative, s.words);
        store_value(head_dim, edge_blocks(shape->context) * EDGE_BLOCK_BYTES, kv, position, value, s.words);
        filled filled = {position + 1, find_top(kv.value_scales, edge_blocks(position + 1))};
        for (size_t h = 0; h < group; h += 2) {
            size_t second = h + 1 < group ? head_dim : 0; /* the odd head is both */
            int direct = second && head_dim % 2 == 0;     /* dimensions go in pairs */
            const float *queries[2] = {qkv, qkv + second};
            float *results[2] = {direct ? y : s.relative, direct ? y + head_dim : s.other};
            attend_pair(queries, results, head_dim, shape, kv, filled, s);
            EDGE_ROLLED
            for (size_t d = 0; !direct && d < head_dim; d++) {
                y[d] = s.relative[d];
                if (second) y[head_dim + d] = s.other[d];
            }
            qkv += head_dim + second, y += head_dim + second;
        }
    }
}

void edge_attention_s8_dsp(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           size_t count, void *cache, void *workspace) {
    for (; count--; position++, qkv += edge_qkv_size(shape), y += shape->heads * shape->head_dim)
        attend_token(position, qkv, y, shape->head_dim, shape, cache, workspace);
}

/* The same for a head_dim of 8, which the compiler then knows. */
void edge_attention_s8_dsp_8(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                             size_t count, void *cache, void *workspace) {
    for (; count--; position++, qkv += edge_qkv_size(shape), y += shape->heads * 8)
        attend_token(position, qkv, y, 8, shape, cache, workspace);
}
