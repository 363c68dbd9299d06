/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu.h"

#include "sigmoid_table.h"

/* VQSHL and VSHR make steps of 1 / 32 of a gate in 2^-16, and keep them within the table. */
void edge_swiglu_s8_mve(const float *gate_up, float *y, size_t size, size_t count) {
    for (; count--; gate_up += 2 * size, y += size) {
        const float *gate = gate_up, *up = gate_up + size;
        float *to = y;
        __asm__ volatile(
            "wlstp.32 lr, %[size], 2f\n"
            "1:\n\t"
            "vldrw.u32 q0, [%[gate]], #16\n\t"
            "vcvt.s32.f32 q1, q0, #16\n\t"
            "vqshl.s32 q1, q1, #12\n\t"
            "vshr.s32 q1, q1, #23\n\t"
            "vldrh.u32 q2, [%[table], q1, uxtw #1]\n\t"
            "vldrw.u32 q1, [%[up]], #16\n\t"
            "vcvt.f32.u32 q2, q2, #16\n\t"
            "vmul.f32 q0, q0, q2\n\t"
            "vmul.f32 q0, q0, q1\n\t"
            "vstrw.32 q0, [%[to]], #16\n\t"
            "letp   lr, 1b\n"
            "2:"
            : [gate] "+r"(gate), [up] "+r"(up), [to] "+r"(to)
            : [size] "r"(size), [table] "r"(edge_sigmoid_table + 256)
            : "q0", "q1", "q2", "lr", "cc", "memory");
    }
}
