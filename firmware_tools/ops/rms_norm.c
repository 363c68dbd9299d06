/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rms_norm.h"

void edge_rms_norm_f32(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count) {
    for (; count--; x += dim, y += dim) {
        float sum = 0.0f;
        for (size_t i = 0; i < dim; i++) sum += x[i] * x[i];
        float inverse = 1.0f / __builtin_sqrtf(sum / (float)dim + epsilon);
        for (size_t i = 0; i < dim; i++) y[i] = x[i] * inverse * gain[i];
    }
}
