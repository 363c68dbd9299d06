/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "svdf.h"

#include "svdf_step.h"

#define EDGE_SVDF(suffix, type, least, most)                                                              \
    void edge_svdf_##suffix(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts,     \
                            const type *time, const int32_t *bias, const edge_svdf *s, void *state) {     \
        type *memory = state;                                                                             \
        for (int32_t b = 0; b < s->batches; b++, x += s->inputs) {                                        \
            const int8_t *row = weights;                                                                  \
            for (int32_t f = 0; f < s->filters;) {                                                        \
                int32_t sum = bias[f / s->rank];                                                          \
                for (int32_t r = 0; r < s->rank; r++, f++, row += s->inputs, memory += s->memory) {       \
                    int32_t dot = starts[f];                                                              \
                    for (int32_t k = 0; k < s->inputs; k++) dot += row[k] * x[k];                         \
                    int32_t feature = edge_feature(dot, s, least, most);                                  \
                    sum = edge_remember_##suffix(memory, time + f * s->memory, s, feature, sum);       \
                }                                                                                         \
                *y++ = edge_svdf_output(sum, s);                                                          \
            }                                                                                             \
        }                                                                                                 \
    }

EDGE_SVDF(s8, int8_t, INT8_MIN, INT8_MAX)
EDGE_SVDF(s16, int16_t, INT16_MIN, INT16_MAX)
