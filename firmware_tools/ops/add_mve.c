/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "add.h"

void edge_add_f32_mve(const float *a, const float *b, float *y, size_t count) {
    size_t rest = count % 16;
    __asm__ volatile(
        "wls    lr, %[blocks], 2f\n"
        "1:\n\t"
        "vldrw.u32 q0, [%[a]], #16\n\t vldrw.u32 q1, [%[b]], #16\n\t"
        "vldrw.u32 q2, [%[a]], #16\n\t vldrw.u32 q3, [%[b]], #16\n\t"
        "vadd.f32 q0, q0, q1\n\t vadd.f32 q2, q2, q3\n\t"
        "vstrw.32 q0, [%[y]], #16\n\t vldrw.u32 q0, [%[a]], #16\n\t vldrw.u32 q1, [%[b]], #16\n\t"
        "vstrw.32 q2, [%[y]], #16\n\t vldrw.u32 q2, [%[a]], #16\n\t vldrw.u32 q3, [%[b]], #16\n\t"
        "vadd.f32 q0, q0, q1\n\t vadd.f32 q2, q2, q3\n\t"
        "vstrw.32 q0, [%[y]], #16\n\t vstrw.32 q2, [%[y]], #16\n\t"
        "le     lr, 1b\n"
        "2:\n\t"
        "wlstp.32 lr, %[rest], 4f\n"
        "3:\n\t"
        "vldrw.u32 q0, [%[a]], #16\n\t vldrw.u32 q1, [%[b]], #16\n\t"
        "vadd.f32 q0, q0, q1\n\t vstrw.32 q0, [%[y]], #16\n\t"
        "letp   lr, 3b\n"
        "4:"
        : [a] "+r"(a), [b] "+r"(b), [y] "+r"(y)
        : [blocks] "r"(count / 16), [rest] "r"(rest)
        : "q0", "q1", "q2", "q3", "lr", "cc", "memory");
}
