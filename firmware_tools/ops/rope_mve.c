/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rope.h"

/* Rotates 4 pairs of each head; b lies half a head after a. */
static inline void rotate(float *a, const float *cosines, const float *sines, size_t heads, size_t head_dim) {
    float *b = a + head_dim / 2;
    __asm__ volatile(
        "vldrw.u32 q6, [%[cosines]]\n\t"
        "vldrw.u32 q7, [%[sines]]\n\t"
        "dls    lr, %[heads]\n"
        "1:\n\t"
        "vldrw.u32 q0, [%[a]]\n\t"
        "vmul.f32 q2, q0, q6\n\t"
        "vldrw.u32 q1, [%[b]]\n\t"
        "vmul.f32 q3, q1, q7\n\t"
        "vmul.f32 q1, q1, q6\n\t"
        "vmul.f32 q0, q0, q7\n\t"
        "vsub.f32 q2, q2, q3\n\t"
        "vadd.f32 q1, q1, q0\n\t"
        "vstrw.32 q2, [%[a]]\n\t"
        "vstrw.32 q1, [%[b]]\n\t"
        "add    %[a], %[a], %[bytes]\n\t"
        "add    %[b], %[b], %[bytes]\n\t"
        "le     lr, 1b"
        : [a] "+r"(a), [b] "+r"(b)
        : [cosines] "r"(cosines), [sines] "r"(sines), [heads] "r"(heads), [bytes] "r"(head_dim * sizeof *a)
        : "q0", "q1", "q2", "q3", "q6", "q7", "lr", "cc", "memory");
}

void edge_rope_f32_mve(uint32_t position, float *x, const float *cosines, const float *sines, size_t heads,
                       size_t head_dim, size_t stride, size_t count) {
    size_t half = head_dim / 2;
    if (half % 4 || heads == 0) {
        edge_rope_f32(position, x, cosines, sines, heads, head_dim, stride, count);
        return;
    }
    const float *cosine = cosines + position * half, *sine = sines + position * half;
    for (; count--; x += stride)
        for (float *at = x; at < x + half; at += 4, cosine += 4, sine += 4) rotate(at, cosine, sine, heads, head_dim);
}
