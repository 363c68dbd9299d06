/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "packed.h"
#include "rms_norm.h"

static float sum_of_squares(const float *x, size_t dim) {
    const float *end = x + (dim & ~(size_t)3);
    register float sum __asm__("s8") = 0.0f;
    if (x != end)
        __asm__ volatile(
            "1:\n\t"
            "vldmia %[x]!, {s0-s3}\n\t"
            "vmul.f32 s0, s0, s0\n\t vmul.f32 s1, s1, s1\n\t vmul.f32 s2, s2, s2\n\t vmul.f32 s3, s3, s3\n\t"
            "vadd.f32 s8, s8, s0\n\t vadd.f32 s8, s8, s1\n\t vadd.f32 s8, s8, s2\n\t vadd.f32 s8, s8, s3\n\t"
            "cmp    %[x], %[end]\n\t"
            "bne    1b"
            : [x] "+&r"(x), "+t"(sum)
            : [end] "r"(end)
            : "s0", "s1", "s2", "s3", "cc", "memory");
    float total = sum;
    EDGE_ROLLED
    for (dim %= 4; dim--; x++) total += *x * *x;
    return total;
}

void edge_rms_norm_f32_dsp(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count) {
    for (const float *gains = gain; count--; gain = gains) {
        register float inverse __asm__("s8") = 1.0f / __builtin_sqrtf(sum_of_squares(x, dim) / (float)dim + epsilon);
        float *end = y + (dim & ~(size_t)3), factor = inverse;
        if (y != end)
            __asm__ volatile(
                "1:\n\t"
                "vldmia %[x]!, {s0-s3}\n\t"
                "vldmia %[gain]!, {s4-s7}\n\t"
                "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s8\n\t vmul.f32 s2, s2, s8\n\t vmul.f32 s3, s3, s8\n\t"
                "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
                "vstmia %[y]!, {s0-s3}\n\t"
                "cmp    %[y], %[end]\n\t"
                "bne    1b"
                : [x] "+&r"(x), [y] "+&r"(y), [gain] "+&r"(gain), "+t"(inverse)
                : [end] "r"(end)
                : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cc", "memory");
        EDGE_ROLLED
        for (size_t rest = dim % 4; rest--;) *y++ = *x++ * factor * *gain++;
    }
}
