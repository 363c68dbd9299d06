/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "add.h"
#include "packed.h"

void edge_add_f32_dsp(const float *a, const float *b, float *y, size_t count) {
    float *end = y + (count & ~(size_t)7);
    if (y != end)
        __asm__ volatile(
            "1:\n\t"
            "vldmia %[a]!, {s0-s7}\n\t"
            "vldmia %[b]!, {s8-s15}\n\t"
            "vadd.f32 s0, s0, s8\n\t vadd.f32 s1, s1, s9\n\t vadd.f32 s2, s2, s10\n\t vadd.f32 s3, s3, s11\n\t"
            "vadd.f32 s4, s4, s12\n\t vadd.f32 s5, s5, s13\n\t vadd.f32 s6, s6, s14\n\t vadd.f32 s7, s7, s15\n\t"
            "vstmia %[y]!, {s0-s7}\n\t"
            "cmp    %[y], %[end]\n\t"
            "bne    1b"
            : [a] "+&r"(a), [b] "+&r"(b), [y] "+&r"(y)
            : [end] "r"(end)
            : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "cc",
              "memory");
    EDGE_ROLLED
    for (count %= 8; count--;) *y++ = *a++ + *b++;
}
