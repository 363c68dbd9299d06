/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu.h"

#include "exp.h"
#include "packed.h"
#include "sigmoid_table.h"

#define BITS_OF_87 0x42AE0000u

/* e^-gate, as edge_exp(-gate) is. One comparison of integers tells that there is nothing to clamp, as nearly always. */
static inline float edge_exp_of_minus(float gate) {
    if (__builtin_expect(edge_float_bits(gate) << 1 > BITS_OF_87 << 1, 0)) {
        __asm__ volatile(""); /* not to be computed and thrown away */
        if (gate > 87.0f) gate = 87.0f;
        if (gate < -88.0f) gate = -88.0f;
    }
    return edge_exp2(gate * -1.4426950408889634f);
}

void edge_swiglu_f32(const float *gate_up, float *y, size_t count) {
    const float *up = gate_up + count;
    for (size_t i = 0; i < count; i++) y[i] = gate_up[i] / (1.0f + edge_exp_of_minus(gate_up[i])) * up[i];
}

void edge_swiglu_s8(const float *gate_up, float *y, size_t count) {
    const float *up = gate_up + count;
    EDGE_ROLLED
    for (size_t i = 0; i < count; i++) {
        int32_t step = edge_fixed(gate_up[i]) >> 11; /* of 1 / 32 */
        step = step < -256 ? -256 : step > 255 ? 255 : step;
        y[i] = gate_up[i] * ((float)edge_sigmoid_table[256 + step] * 0x1p-16f) * up[i];
    }
}
