/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_s8.h"

void edge_fully_connected_s8(const float *x, float *y, const int8_t *weights, const float *scales, const float *bias,
                             size_t rows, size_t columns, size_t count, void *workspace) {
    edge_core core = {edge_quantize, edge_scaled_dots};
    edge_connect_s8(core, x, y, weights, scales, bias, rows, columns, count, workspace);
}

static void connect_f32(const float *x, float *y, const float *weights, const float *bias, size_t rows, size_t columns) {
    for (size_t n = 0; n < rows; n += 4, weights += 4 * columns) {
        /* 4 rows at a time, so that x is loaded once for them; the last group repeats rows where there are fewer */
        size_t last = rows - n < 4 ? rows - n - 1 : 3;
        const float *w1 = weights + (last < 1 ? last : 1) * columns;
        const float *w2 = weights + (last < 2 ? last : 2) * columns;
        const float *w3 = weights + last * columns;
        float sums[4] = {0};
        for (size_t k = 0; k < columns; k++) {
            sums[0] += weights[k] * x[k];
            sums[1] += w1[k] * x[k];
            sums[2] += w2[k] * x[k];
            sums[3] += w3[k] * x[k];
        }
        for (size_t r = 0; r <= last; r++) y[n + r] = sums[r];
    }
    if (bias) {
        EDGE_ROLLED
        for (size_t n = 0; n < rows; n++) y[n] += bias[n];
    }
}

void edge_fully_connected_f32(const float *x, float *y, const float *weights, const float *bias, size_t rows,
                              size_t columns, size_t count) {
    for (; count--; x += columns, y += rows) connect_f32(x, y, weights, bias, rows, columns);
}
