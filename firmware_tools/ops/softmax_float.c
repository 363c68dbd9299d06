/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "softmax_float.h"

#include "elementary.h"

static float largest(const float *x, size_t n) {
    float most = x[0];
    for (size_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

void edge_softmax_f32(const float *x, float *y, size_t rows, size_t n, float beta) {
    for (; rows--; x += n, y += n) {
        float most = largest(x, n), sum = 0.0f;
        for (size_t i = 0; i < n; i++) {
            y[i] = edge_e_to((x[i] - most) * beta);
            sum += y[i];
        }
        for (size_t i = 0; i < n; i++) y[i] = y[i] / sum;
    }
}

void edge_log_softmax_f32(const float *x, float *y, size_t rows, size_t n) {
    for (; rows--; x += n, y += n) {
        float most = largest(x, n), sum = 0.0f;
        for (size_t i = 0; i < n; i++) sum += edge_e_to(x[i] - most);
        sum = edge_log(sum);
        for (size_t i = 0; i < n; i++) y[i] = x[i] - most - sum;
    }
}
