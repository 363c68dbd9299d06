/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rms_norm.h"

#include "exp.h"

/* The sum of squares, first to last: squared as vectors, added one by one. Lanes behind the end add 0. */
static inline float sum_of_squares(const float *x, size_t dim) {
    register float sum __asm__("s16") = 0.0f;
    __asm__ volatile(
        "dlstp.32 lr, %[dim]\n"
        "1:\n\t"
        "vldrw.u32 q0, [%[x]], #16\n\t"
        "vmul.f32 q0, q0, q0\n\t"
        "vadd.f32 s16, s16, s0\n\t vadd.f32 s16, s16, s1\n\t vadd.f32 s16, s16, s2\n\t vadd.f32 s16, s16, s3\n\t"
        "letp   lr, 1b"
        : [x] "+r"(x), "+t"(sum)
        : [dim] "r"(dim)
        : "q0", "lr", "cc", "memory");
    return sum;
}

void edge_rms_norm_f32_mve(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count) {
    for (; count--; x += dim, y += dim) {
        float inverse = 1.0f / __builtin_sqrtf(sum_of_squares(x, dim) / (float)dim + epsilon);
        const float *from = x, *by = gain;
        float *to = y;
        __asm__ volatile(
            "dlstp.32 lr, %[dim]\n"
            "1:\n\t"
            "vldrw.u32 q0, [%[from]], #16\n\t"
            "vmul.f32 q0, q0, %[inverse]\n\t"
            "vldrw.u32 q1, [%[by]], #16\n\t"
            "vmul.f32 q0, q0, q1\n\t"
            "vstrw.32 q0, [%[to]], #16\n\t"
            "letp   lr, 1b"
            : [from] "+r"(from), [by] "+r"(by), [to] "+r"(to)
            : [dim] "r"(dim), [inverse] "r"(edge_float_bits(inverse))
            : "q0", "q1", "lr", "cc", "memory");
    }
}
