/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu.h"

#include "sigmoid_table.h"

static inline void swiglu_row(const float *gate_up, float *y, size_t size) {
    const float *up = gate_up + size, *end = up;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[gate]!, {s0}\n\t"
        "vmov.f32 s1, s0\n\t"
        "vcvt.s32.f32 s1, s1, #16\n\t"
        "vmov   r3, s1\n\t"
        "ssat   r3, #9, r3, asr #11\n\t" /* steps of 1 / 32, within the table */
        "ldrh   r3, [%[table], r3, lsl #1]\n\t"
        "vmov   s1, r3\n\t"
        "vcvt.f32.u32 s1, s1, #16\n\t"
        "vmul.f32 s0, s0, s1\n\t"
        "vldmia %[up]!, {s1}\n\t"
        "vmul.f32 s0, s0, s1\n\t"
        "vstmia %[y]!, {s0}\n\t"
        "cmp    %[gate], %[end]\n\t"
        "bne    1b"
        : [gate] "+&r"(gate_up), [up] "+&r"(up), [y] "+&r"(y)
        : [end] "r"(end), [table] "r"(edge_sigmoid_table + 256)
        : "r3", "s0", "s1", "cc", "memory");
}

void edge_swiglu_s8_dsp(const float *gate_up, float *y, size_t size, size_t count) {
    if (size == 0) return;
    for (; count--; gate_up += 2 * size, y += size) swiglu_row(gate_up, y, size);
}
