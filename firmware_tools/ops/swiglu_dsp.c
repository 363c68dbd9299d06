/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "packed.h"
#include "sigmoid_table.h"
#include "swiglu.h"

/* Four at a time; the gates are loaded twice, since a conversion to fixed point overwrites them. */
EDGE_PART void swiglu_blocks(const float *gate, const float *up, float *y, const float *end) {
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[gate], {s8-s11}\n\t"
        "vldmia %[gate]!, {s0-s3}\n\t"
        "vldmia %[up]!, {s4-s7}\n\t"
        "vcvt.s32.f32 s8, s8, #16\n\t vcvt.s32.f32 s9, s9, #16\n\t"
        "vcvt.s32.f32 s10, s10, #16\n\t vcvt.s32.f32 s11, s11, #16\n\t"
        "vmov   r3, r4, s8, s9\n\t vmov   r5, r6, s10, s11\n\t"
        "ssat   r3, #9, r3, asr #11\n\t ssat   r4, #9, r4, asr #11\n\t" /* steps of 1 / 32, within the table */
        "ssat   r5, #9, r5, asr #11\n\t ssat   r6, #9, r6, asr #11\n\t"
        "ldrh   r3, [%[table], r3, lsl #1]\n\t ldrh   r4, [%[table], r4, lsl #1]\n\t"
        "ldrh   r5, [%[table], r5, lsl #1]\n\t ldrh   r6, [%[table], r6, lsl #1]\n\t"
        "vmov   s8, s9, r3, r4\n\t vmov   s10, s11, r5, r6\n\t"
        "vcvt.f32.u32 s8, s8, #16\n\t vcvt.f32.u32 s9, s9, #16\n\t"
        "vcvt.f32.u32 s10, s10, #16\n\t vcvt.f32.u32 s11, s11, #16\n\t"
        "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s9\n\t vmul.f32 s2, s2, s10\n\t vmul.f32 s3, s3, s11\n\t"
        "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
        "vstmia %[y]!, {s0-s3}\n\t"
        "cmp    %[gate], %[end]\n\t"
        "bne    1b"
        : [gate] "+&r"(gate), [up] "+&r"(up), [y] "+&r"(y)
        : [end] "r"(end), [table] "r"(edge_sigmoid_table + 256)
        : "r3", "r4", "r5", "r6", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "cc", "memory");
}

void edge_swiglu_s8_dsp(const float *gate_up, float *y, size_t size, size_t count) {
    size_t whole = size & ~(size_t)3;
    for (; count--; gate_up += 2 * size, y += size) {
        if (whole) swiglu_blocks(gate_up, gate_up + size, y, gate_up + whole);
        EDGE_ROLLED
        for (size_t i = whole; i < size; i++) {
            int32_t step = edge_fixed(gate_up[i]) >> 11;
            step = step < -256 ? -256 : step > 255 ? 255 : step;
            y[i] = gate_up[i] * ((float)edge_sigmoid_table[256 + step] * 0x1p-16f) * gate_up[size + i];
        }
    }
}
