/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "lstm.h"

#include "hybrid.h"

/* gates[rows] += matrix[rows][columns] x. */
static void add_products(const float *matrix, const float *x, float *gates, size_t rows, size_t columns) {
    for (; rows--; matrix += columns) {
        float sum = 0.0f;
        for (size_t k = 0; k < columns; k++) sum += matrix[k] * x[k];
        *gates++ += sum;
    }
}

/* The same for each of the four gates with its scale, x quantized into values. */
static void add_hybrid(const int8_t *matrix, const float *scales, const float *x, float *gates, size_t units,
                       size_t columns, int8_t *values, int is_asymmetric) {
    edge_hybrid how = edge_quantize_hybrid(x, values, columns, is_asymmetric);
    for (size_t gate = 0; gate < 4; gate++) {
        float scale = how.scale * scales[gate];
        for (size_t n = 0; n < units; n++, matrix += columns)
            *gates++ += (float)edge_hybrid_dot(matrix, values, columns, how.zero_point) * scale;
    }
}

/* From gates[4][units] to the next h and c. */
static void update(const float *gates, float *h, float *c, size_t units, float clip) {
    for (size_t j = 0; j < units; j++) {
        float next = edge_logistic(gates[units + j]) * c[j];
        next = next + edge_tanh(gates[2 * units + j]) * edge_logistic(gates[j]);
        if (clip > 0.0f) next = next < -clip ? -clip : next > clip ? clip : next;
        c[j] = next;
        h[j] = edge_logistic(gates[3 * units + j]) * edge_tanh(next);
    }
}

/* Which row of x or y a step of a batch is. */
static size_t row_of(const edge_lstm_shape *s, size_t batch, size_t step) {
    return s->time_major ? step * s->batches + batch : batch * s->steps + step;
}

void edge_lstm_f32(const float *x, float *y, const float *weights, const float *recurrent, const float *bias,
                   const edge_lstm_shape *s, void *state, void *workspace) {
    float *gates = workspace, *h = state, *c = h + (size_t)s->batches * s->units;
    for (size_t b = 0; b < s->batches; b++, h += s->units, c += s->units) {
        for (size_t t = 0; t < s->steps; t++) {
            size_t row = row_of(s, b, t);
            for (size_t n = 0; n < 4 * s->units; n++) gates[n] = bias[n];
            add_products(weights, x + row * s->inputs, gates, 4 * s->units, s->inputs);
            add_products(recurrent, h, gates, 4 * s->units, s->units);
            update(gates, h, c, s->units, s->cell_clip);
            for (size_t j = 0; j < s->units; j++) y[row * s->units + j] = h[j];
        }
    }
}

void edge_lstm_hybrid(const float *x, float *y, const int8_t *weights, const int8_t *recurrent, const float *bias,
                      const float *scales, const edge_lstm_shape *s, void *state, void *workspace) {
    float *gates = workspace, *h = state, *c = h + (size_t)s->batches * s->units;
    int8_t *values = (int8_t *)(gates + 4 * s->units);
    int is_asymmetric = s->asymmetric != 0;
    for (size_t b = 0; b < s->batches; b++, h += s->units, c += s->units) {
        for (size_t t = 0; t < s->steps; t++) {
            size_t row = row_of(s, b, t);
            for (size_t n = 0; n < 4 * s->units; n++) gates[n] = bias[n];
            add_hybrid(weights, scales, x + row * s->inputs, gates, s->units, s->inputs, values, is_asymmetric);
            add_hybrid(recurrent, scales + 4, h, gates, s->units, s->units, values, is_asymmetric);
            update(gates, h, c, s->units, s->cell_clip);
            for (size_t j = 0; j < s->units; j++) y[row * s->units + j] = h[j];
        }
    }
}
