/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu.h"

#include "exp.h"
#include "packed.h"
#include "sigmoid_table.h"

void edge_swiglu_f32(const float *gate_up, float *y, size_t size, size_t count) {
    for (; count--; gate_up += 2 * size, y += size) {
        const float *up = gate_up + size;
        EDGE_ROLLED
        for (size_t i = 0; i < size; i++) y[i] = gate_up[i] / (1.0f + edge_exp(-gate_up[i])) * up[i];
    }
}

void edge_swiglu_s8(const float *gate_up, float *y, size_t size, size_t count) {
    for (; count--; gate_up += 2 * size, y += size) {
        const float *up = gate_up + size;
        EDGE_ROLLED
        for (size_t i = 0; i < size; i++) {
            int32_t step = edge_fixed(gate_up[i]) >> 11; /* of 1 / 32 */
            step = step < -256 ? -256 : step > 255 ? 255 : step;
            y[i] = gate_up[i] * ((float)edge_sigmoid_table[256 + step] * 0x1p-16f) * up[i];
        }
    }
}
