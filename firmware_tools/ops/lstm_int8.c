/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "lstm_int8.h"

#include "lstm_int8_step.h"

/* gates[4][units] += the scaled dot products of matrix[4][units][columns] with x, saturated. */
static void add_products(const int8_t *matrix, const int8_t *x, int16_t *gates, const int32_t *bias,
                         const int32_t *scaling, size_t units, size_t columns) {
    for (size_t gate = 0; gate < 4; gate++, scaling += 2) {
        for (size_t n = 0; n < units; n++, matrix += columns, gates++) {
            int32_t sum = *bias++;
            for (size_t k = 0; k < columns; k++) sum += matrix[k] * x[k];
            *gates = (int16_t)edge_saturated_16(*gates + edge_scale_twice_rounded(sum, scaling[0], scaling[1]));
        }
    }
}

void edge_lstm_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int8_t *recurrent, const int32_t *bias,
                  const int32_t *scaling, const edge_lstm_s8_shape *s, void *state, void *workspace) {
    size_t cells = (size_t)s->batches * s->units;
    int8_t *kept = state;
    int16_t *c = (int16_t *)(void *)(kept + cells + cells % 2), *gates = workspace;
    int8_t *h = (int8_t *)(gates + 4 * s->units);
    for (size_t b = 0; b < s->batches; b++, kept += s->units, c += s->units) {
        for (size_t j = 0; j < s->units; j++) h[j] = (int8_t)(kept[j] + s->h_zero);
        for (size_t t = 0; t < s->steps; t++) {
            size_t row = s->time_major ? t * s->batches + b : b * s->steps + t;
            for (size_t n = 0; n < 4 * s->units; n++) gates[n] = 0;
            add_products(weights, x + row * s->inputs, gates, bias, scaling, s->units, s->inputs);
            add_products(recurrent, h, gates, bias + 4 * s->units, scaling + 8, s->units, s->units);
            edge_lstm_update(gates, h, c, s);
            for (size_t j = 0; j < s->units; j++) y[row * s->units + j] = h[j];
        }
        for (size_t j = 0; j < s->units; j++) kept[j] = (int8_t)(h[j] - s->h_zero);
    }
}
