/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What bfp.h computes over whole rows, for Armv6-M: loads of several words, few registers, 2 operands. */
#ifndef EDGE_BFP_V6M_H
#define EDGE_BFP_V6M_H

/* bfp.h: a step of Newton's from 2^22 / x, and then to the integer below; Armv6-M has no division. */
EDGE_BFP_PART int32_t edge_bfp_inverse(uint32_t x) {
    static const uint8_t table[] = {
        128, 127, 126, 125, 124, 123, 122, 121, 120, 119, 118, 117, 117, 116, 115, 114, 113, 113, 112, 111, 110, 110,
        109, 108, 107, 107, 106, 105, 105, 104, 103, 103, 102, 101, 101, 100, 100, 99, 98, 98, 97, 97, 96, 96,
        95, 94, 94, 93, 93, 92, 92, 91, 91, 90, 90, 89, 89, 88, 88, 87, 87, 86, 86, 86, 85, 85,
        84, 84, 83, 83, 83, 82, 82, 81, 81, 81, 80, 80, 79, 79, 79, 78, 78, 77, 77, 77, 76, 76,
        76, 75, 75, 75, 74, 74, 74, 73, 73, 73, 72, 72, 72, 71, 71, 71, 70, 70, 70, 70, 69, 69,
        69, 68, 68, 68, 68, 67, 67, 67, 66, 66, 66, 66, 65, 65, 65, 65, 64, 64};
    int32_t first = table[(x >> 8) - 128], guess = first << 8;
    int32_t rest = (1 << 30) - guess * (int32_t)x;
    guess += (rest >> 10) * first >> 12;
    rest = (1 << 30) - guess * (int32_t)x;
    while (rest < 0) guess--, rest += (int32_t)x;
    while (rest >= (int32_t)x) guess++, rest -= (int32_t)x;
    return guess;
}

/* bfp.h */
EDGE_BFP_PART uint32_t edge_bfp_any(const int32_t *m, size_t count) {
    const int32_t *end = m + count / 4 * 4;
    uint32_t any = 0, sign = 0;
    if (m != end)
        __asm__ volatile(
            EDGE_UNIFIED "1:\n\t"
            "ldmia  %[m]!, {r3, r4, r5, r6}\n\t"
            "asrs   %[sign], r3, #31\n\t eors r3, %[sign]\n\t orrs %[any], r3\n\t"
            "asrs   %[sign], r4, #31\n\t eors r4, %[sign]\n\t orrs %[any], r4\n\t"
            "asrs   %[sign], r5, #31\n\t eors r5, %[sign]\n\t orrs %[any], r5\n\t"
            "asrs   %[sign], r6, #31\n\t eors r6, %[sign]\n\t orrs %[any], r6\n\t"
            "cmp    %[m], %[end]\n\t"
            "bne    1b"
            : [m] "+&l"(m), [any] "+&l"(any), [sign] "+&l"(sign)
            : [end] "h"(end)
            : "r3", "r4", "r5", "r6", "cc", "memory");
    EDGE_BFP_ROLLED
    for (count %= 4; count > 0; count--, m++) any |= (uint32_t)(*m ^ *m >> 31);
    return any;
}

/* Raises top to the magnitude of the register x, which is lost. */
#define EDGE_RAISE(x, label)                                                                       \
    "asrs r6, " x ", #31\n\t eors " x ", r6\n\t subs " x ", " x ", r6\n\t cmp " x ", %[top]\n\t"    \
    "bls " label "f\n\t mov %[top], " x "\n" label ":\n\t"

/* bfp.h. x lies in [-top, top] where x + top, unsigned, is at most 2 top: three instructions ask that. */
EDGE_BFP_PART uint32_t edge_bfp_largest_of_pairs(const int32_t *m, size_t count) {
    const int32_t *end = m + count;
    uint32_t top = 0, twice = 0;
    if (count)
        __asm__ volatile(
            EDGE_UNIFIED "1:\n\t"
            "ldmia  %[m]!, {r3, r4}\n\t"
            "adds   r5, r3, r4\n\t"
            "adds   r6, r3, %[top]\n\t cmp r6, %[twice]\n\t bhi 2f\n\t"
            "adds   r6, r4, %[top]\n\t cmp r6, %[twice]\n\t bhi 2f\n\t"
            "adds   r6, r5, %[top]\n\t cmp r6, %[twice]\n\t bhi 2f\n"
            "3:\n\t"
            "cmp    %[m], %[end]\n\t"
            "bne    1b\n\t"
            "b      4f\n"
            "2:\n\t" EDGE_RAISE("r3", "5") EDGE_RAISE("r4", "6") EDGE_RAISE("r5", "7")
            "adds   r6, %[top], %[top]\n\t"
            "mov    %[twice], r6\n\t"
            "b      3b\n"
            "4:"
            : [m] "+&l"(m), [top] "+&l"(top), [twice] "+&h"(twice)
            : [end] "h"(end)
            : "r3", "r4", "r5", "r6", "cc", "memory");
    return top;
}

#endif
