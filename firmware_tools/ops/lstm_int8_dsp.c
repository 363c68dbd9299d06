/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "lstm_int8.h"

#include "dots_int8_dsp.h"
#include "lstm_int8_step.h"

/* gates[4][units] += the scaled dot products of 4 * units rows with x, saturated. */
static void edge_add_products(const int8_t *matrix, const uint32_t *x, int16_t *gates, const int32_t *bias,
                              const int32_t *scaling, size_t units, size_t fours) {
    for (size_t n = 0; n < 4 * units; n += 2) {
        int32_t sums[2];
        matrix = edge_two_rows(matrix, x, (int32_t)fours, sums);
        for (size_t i = n; i < n + 2; i++) {
            const int32_t *scale = scaling + i / units * 2;
            int32_t scaled = edge_scale_twice_rounded(sums[i - n] + bias[i], scale[0], scale[1]);
            gates[i] = (int16_t)edge_saturated_16(gates[i] + scaled);
        }
    }
}

void edge_lstm_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int8_t *recurrent, const int32_t *bias,
                      const int32_t *scaling, const edge_lstm_s8_shape *s, void *state, void *workspace) {
    size_t cells = (size_t)s->batches * s->units;
    int8_t *kept = state;
    int16_t *c = (int16_t *)(void *)(kept + cells + cells % 2), *gates = workspace;
    size_t fours = (s->inputs + 3) / 4, own_fours = (s->units + 3) / 4;
    uint32_t *words = (uint32_t *)(void *)(gates + 4 * s->units);
    int8_t *h = (int8_t *)(words + 2 * (fours > own_fours ? fours : own_fours));
    for (size_t b = 0; b < s->batches; b++, kept += s->units, c += s->units) {
        for (size_t j = 0; j < s->units; j++) h[j] = (int8_t)(kept[j] + s->h_zero);
        for (size_t t = 0; t < s->steps; t++) {
            size_t row = s->time_major ? t * s->batches + b : b * s->steps + t;
            for (size_t n = 0; n < 4 * s->units; n++) gates[n] = 0;
            edge_widen_row(x + row * s->inputs, (int32_t)s->inputs, words);
            edge_add_products(weights, words, gates, bias, scaling, s->units, fours);
            edge_widen_row(h, (int32_t)s->units, words);
            edge_add_products(recurrent, words, gates, bias + 4 * s->units, scaling + 8, s->units, own_fours);
            edge_lstm_update(gates, h, c, s);
            for (size_t j = 0; j < s->units; j++) y[row * s->units + j] = h[j];
        }
        for (size_t j = 0; j < s->units; j++) kept[j] = (int8_t)(h[j] - s->h_zero);
    }
}
