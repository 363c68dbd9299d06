/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* 4 pairs at a time: their cosines and sines stay in registers for all heads. */
#include "rope.h"

static void turn(float *a, float *b, const float *end, size_t stride_bytes, const float *cosine, const float *sine) {
    __asm__ volatile(
        "vldmia %[cosine], {s8-s11}\n\t"
        "vldmia %[sine], {s12-s15}\n"
        "1:\n\t"
        "vldmia %[a], {s0-s3}\n\t"
        "vldmia %[b], {s4-s7}\n\t"
        "vmul.f32 s16, s0, s8\n\t vmul.f32 s17, s1, s9\n\t vmul.f32 s18, s2, s10\n\t vmul.f32 s19, s3, s11\n\t"
        "vmul.f32 s20, s4, s12\n\t vmul.f32 s21, s5, s13\n\t vmul.f32 s22, s6, s14\n\t vmul.f32 s23, s7, s15\n\t"
        "vsub.f32 s16, s16, s20\n\t vsub.f32 s17, s17, s21\n\t vsub.f32 s18, s18, s22\n\t vsub.f32 s19, s19, s23\n\t"
        "vmul.f32 s4, s4, s8\n\t vmul.f32 s5, s5, s9\n\t vmul.f32 s6, s6, s10\n\t vmul.f32 s7, s7, s11\n\t"
        "vmul.f32 s0, s0, s12\n\t vmul.f32 s1, s1, s13\n\t vmul.f32 s2, s2, s14\n\t vmul.f32 s3, s3, s15\n\t"
        "vadd.f32 s4, s4, s0\n\t vadd.f32 s5, s5, s1\n\t vadd.f32 s6, s6, s2\n\t vadd.f32 s7, s7, s3\n\t"
        "vstmia %[a], {s16-s19}\n\t"
        "vstmia %[b], {s4-s7}\n\t"
        "add    %[a], %[a], %[stride]\n\t"
        "add    %[b], %[b], %[stride]\n\t"
        "cmp    %[a], %[end]\n\t"
        "bne    1b"
        : [a] "+&r"(a), [b] "+&r"(b)
        : [end] "r"(end), [stride] "r"(stride_bytes), [cosine] "r"(cosine), [sine] "r"(sine)
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16",
          "s17", "s18", "s19", "s20", "s21", "s22", "s23", "cc", "memory");
}

void edge_rope_f32_dsp(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads,
                       size_t head_dim, size_t stride, size_t count) {
    size_t half = head_dim / 2;
    const float *cosine = cosines + position * half, *sine = sines + position * half;
    for (; count--; x += stride)
        for (float *a = x; a != x + half; a += 4, cosine += 4, sine += 4)
            turn(a, a + half, a + heads * head_dim, sizeof(float) * head_dim, cosine, sine);
}
