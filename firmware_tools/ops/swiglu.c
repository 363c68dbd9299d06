/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu.h"

#include "exp.h"

void edge_swiglu_f32(const float *gate_up, float *y, size_t count) {
    EDGE_ROLLED
    for (size_t i = 0; i < count; i++) {
        float gate = gate_up[i];
        y[i] = gate / (1.0f + edge_exp(-gate)) * gate_up[count + i];
    }
}
