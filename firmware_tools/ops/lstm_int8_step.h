/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the kernels of an int8 LSTM share: a step of its cells. */
#ifndef EDGE_LSTM_INT8_STEP_H
#define EDGE_LSTM_INT8_STEP_H

#include "fixed_point_16.h"
#include "lstm_int8.h"
#include "requantize.h"

/* From gates[4][units] to the next cells and h. */
static inline void edge_lstm_update(const int16_t *gates, int8_t *h, int16_t *cells, const edge_lstm_s8_shape *s) {
    size_t units = s->units;
    int32_t shift = 15 + s->cell_bits;
    for (size_t j = 0; j < units; j++) {
        int32_t forget = edge_logistic_16(gates[units + j]), input = edge_logistic_16(gates[j]);
        int32_t kept = (int16_t)edge_rounding_shift(forget * cells[j], 15);
        int32_t added = (int16_t)edge_rounding_shift(input * edge_tanh_16(gates[2 * units + j], 3), shift);
        int32_t next = edge_saturated_16(kept + added);
        if (s->cell_clip > 0) next = edge_clamp(next, -s->cell_clip, s->cell_clip);
        cells[j] = (int16_t)next;
        int32_t out = edge_logistic_16(gates[3 * units + j]) * edge_tanh_16(next, s->cell_bits);
        out = edge_scale_twice_rounded(out, s->hidden_multiplier, s->hidden_exponent) + s->hidden_zero;
        h[j] = (int8_t)edge_clamp(out, -128, 127);
    }
}

#endif
