/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Armv6-M: both dot products by 4 columns at a time, whose queries or sums stay in registers. */
#ifndef EDGE_ATTENTION_BFP_CORE_V6M_H
#define EDGE_ATTENTION_BFP_CORE_V6M_H

#include "attention_bfp_core.h"

/* dots[count] of 4 columns: the query's with the keys', which are stored 128 too large. `more` adds what lies there. */
#define EDGE_DOTS(more)                                                                               \
    EDGE_UNIFIED "mov r9, r7\n\t" /* clang keeps it for itself */                                               \
    "ldmia  %[query]!, {r4, r5, r6, r7}\n"                                                            \
    "1:\n\t"                                                                                          \
    "ldrb   %[query], [%[keys], #0]\n\t muls %[query], r4\n\t add %[query], %[offset]\n\t"            \
    "ldrb   r3, [%[keys], #1]\n\t muls r3, r5\n\t adds %[query], %[query], r3\n\t"                    \
    "ldrb   r3, [%[keys], #2]\n\t muls r3, r6\n\t adds %[query], %[query], r3\n\t"                    \
    "ldrb   r3, [%[keys], #3]\n\t muls r3, r7\n\t adds %[query], %[query], r3\n\t" more               \
    "add    %[keys], %[stride]\n\t"                                                                   \
    "stmia  %[dots]!, {%[query]}\n\t"                                                                 \
    "cmp    %[dots], %[end]\n\t"                                                                      \
    "bne    1b\n\t"                                                                                   \
    "mov    r7, r9"
#define EDGE_MORE "ldr r3, [%[dots]]\n\t adds %[query], %[query], r3\n\t"

EDGE_BFP_PART void edge_dots(const uint8_t *first_key, size_t stride, const int32_t *queries, int32_t *first, size_t count,
                             int more) {
    register const uint8_t *keys __asm__("r0") = first_key; /* not r7, which the compiler does not know to be used */
    register const int32_t *query __asm__("r1") = queries;
    register int32_t *dots __asm__("r2") = first;
    int32_t offset = -128 * (queries[0] + queries[1] + queries[2] + queries[3]);
    int32_t *end = first + count;
    if (more)
        __asm__ volatile(EDGE_DOTS(EDGE_MORE)
                         : [keys] "+&l"(keys), [query] "+&l"(query), [dots] "+&l"(dots)
                         : [stride] "h"(stride), [offset] "h"(offset), [end] "h"(end)
                         : "r3", "r4", "r5", "r6", "r9", "cc", "memory");
    else
        __asm__ volatile(EDGE_DOTS("")
                         : [keys] "+&l"(keys), [query] "+&l"(query), [dots] "+&l"(dots)
                         : [stride] "h"(stride), [offset] "h"(offset), [end] "h"(end)
                         : "r3", "r4", "r5", "r6", "r9", "cc", "memory");
}

/* Both halves' dots become scores, in the place of the first; returns the largest. */
EDGE_BFP_PART int32_t edge_join(int32_t *first, const int32_t *second, const uint16_t *key_factors, size_t count,
                                int32_t shift) {
    int32_t largest = INT32_MIN;
    int32_t *end = first + count;
    __asm__ volatile(
        EDGE_UNIFIED "1:\n\t"
        "ldr    r3, [%[first], #0]\n\t asrs r3, %[shift]\n\t"
        "ldmia  %[second]!, {r4}\n\t asrs r4, %[shift]\n\t"
        "ldrh   r5, [%[factors], #0]\n\t muls r3, r5\n\t"
        "ldrh   r5, [%[factors], #2]\n\t muls r4, r5\n\t"
        "adds   %[factors], #4\n\t"
        "adds   r3, r3, r4\n\t"
        "stmia  %[first]!, {r3}\n\t"
        "cmp    r3, %[largest]\n\t"
        "ble    2f\n\t"
        "mov    %[largest], r3\n"
        "2:\n\t"
        "cmp    %[first], %[end]\n\t"
        "bne    1b"
        : [first] "+&l"(first), [second] "+&l"(second), [factors] "+&l"(key_factors), [largest] "+&h"(largest)
        : [shift] "l"(shift), [end] "h"(end)
        : "r3", "r4", "r5", "cc", "memory");
    return largest;
}

/* attention_bfp_core.h */
EDGE_BFP_PART int32_t edge_scores_v6m(const uint8_t *keys, const uint16_t *key_factors, size_t count,
                                      const int32_t *query, size_t head_dim, int32_t score_shift, int32_t *scores,
                                      int32_t *spare) {
    size_t half = head_dim / 2;
    if (half % 4) return edge_scores(keys, key_factors, count, query, head_dim, score_shift, scores, spare);
    for (size_t d = 0; d < half; d += 4) {
        edge_dots(keys + d, head_dim, query + d, scores, count, d > 0);
        edge_dots(keys + half + d, head_dim, query + half + d, spare, count, d > 0);
    }
    return edge_join(scores, spare, key_factors, count, score_shift);
}

/* Sums of weights times 4 columns of values. */
EDGE_BFP_PART void edge_sums_of_4(const uint8_t *values, size_t stride, const int32_t *weights, size_t count,
                                  int32_t *y) {
    const int32_t *end = weights + count;
    int32_t sum = 0, last = 0;
    register int32_t first __asm__("r4") = 0;
    register int32_t second __asm__("r5") = 0;
    register int32_t third __asm__("r6") = 0;
    __asm__ volatile(
        EDGE_UNIFIED "1:\n\t"
        "ldmia  %[weights]!, {r3}\n\t"
        "add    %[sum], r3\n\t"
        "ldrb   r2, [%[values], #0]\n\t muls r2, r3\n\t adds r4, r4, r2\n\t"
        "ldrb   r2, [%[values], #1]\n\t muls r2, r3\n\t adds r5, r5, r2\n\t"
        "ldrb   r2, [%[values], #2]\n\t muls r2, r3\n\t adds r6, r6, r2\n\t"
        "ldrb   r2, [%[values], #3]\n\t muls r2, r3\n\t add %[last], r2\n\t"
        "add    %[values], %[stride]\n\t"
        "cmp    %[weights], %[end]\n\t"
        "bne    1b"
        : [values] "+&l"(values), [weights] "+&l"(weights), "+&l"(first), "+&l"(second), "+&l"(third),
          [sum] "+&h"(sum), [last] "+&h"(last)
        : [stride] "h"(stride), [end] "h"(end)
        : "r2", "r3", "cc", "memory");
    sum = edge_bfp_left(sum, 7); /* values are stored 128 too large */
    y[0] = first - sum, y[1] = second - sum, y[2] = third - sum, y[3] = last - sum;
}

EDGE_BFP_PART void edge_sums_v6m(const uint8_t *values, const int32_t *weights, size_t count, size_t head_dim,
                                 int32_t *y) {
    if (head_dim % 4) {
        edge_sums(values, weights, count, head_dim, y);
        return;
    }
    for (size_t d = 0; d < head_dim; d += 4) edge_sums_of_4(values + d, head_dim, weights, count, y + d);
}

static const edge_core edge_core_v6m = {edge_scores_v6m, edge_weigh, edge_sums_v6m};

#endif
