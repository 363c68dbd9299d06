/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "svdf_float.h"

#include <stddef.h>

/* A filter's memory after a step, and its product with the filter's time. */
static float remember(float *memory, const float *time, size_t count, float newest) {
    float sum = 0.0f;
    for (size_t i = 0; i + 1 < count; i++) {
        memory[i] = memory[i + 1];
        sum += memory[i] * time[i];
    }
    memory[count - 1] = newest;
    return sum + newest * time[count - 1];
}

void edge_svdf_f32(const float *x, float *y, const float *features, const float *time, const float *bias,
                   const edge_svdf_f32_shape *s, float least, float most, void *state) {
    float *memory = state;
    for (size_t b = 0; b < s->batches; b++, x += s->inputs) {
        for (size_t f = 0; f < s->filters; memory += s->memory, f++) {
            float dot = 0.0f, *unit = y + f / s->rank;
            for (size_t k = 0; k < s->inputs; k++) dot += features[f * s->inputs + k] * x[k];
            float product = remember(memory, time + f * s->memory, s->memory, dot);
            *unit = (f % s->rank ? *unit : 0.0f) + product;
        }
        for (size_t n = 0; n < s->filters / s->rank; n++, y++) {
            if (bias) *y += bias[n];
            *y = *y < least ? least : *y > most ? most : *y;
        }
    }
}
