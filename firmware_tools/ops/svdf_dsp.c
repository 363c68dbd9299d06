/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "svdf.h"

#include "dots_int8_dsp.h"
#include "svdf_step.h"

static inline int32_t edge_remember_fast_s8(int8_t *memory, const int8_t *time, const edge_svdf *s, int32_t feature,
                                            int32_t sum) {
    return edge_remember_s8(memory, time, s, feature, sum);
}

/* Two at a time; sums of SMLAD wrap as well. A memory of 16 bits starts at 0. */
static inline int32_t edge_remember_fast_s16(int16_t *memory, const int16_t *time, const edge_svdf *s, int32_t feature,
                                             int32_t sum) {
    int32_t last = s->memory - 1, k = 0;
    for (; k + 1 < last; k += 2) {
        uint32_t two = edge_word(memory + k + 1);
        __builtin_memcpy(memory + k, &two, sizeof two);
        sum = __smlad((int16x2_t)two, (int16x2_t)edge_word(time + k), sum);
    }
    if (k < last) {
        memory[k] = memory[k + 1];
        sum = edge_wrapped_sum(sum, memory[k] * time[k]);
    }
    memory[last] = (int16_t)feature;
    return edge_wrapped_sum(sum, feature * time[last]);
}

#define EDGE_SVDF(suffix, type, least, most)                                                              \
    void edge_svdf_##suffix##_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *starts, \
                                  const type *time, const int32_t *bias, const edge_svdf *s, void *state, \
                                  void *workspace) {                                                      \
        type *memory = state;                                                                             \
        int32_t fours = (s->inputs + 3) / 4;                                                              \
        for (int32_t b = 0; b < s->batches; b++, x += s->inputs) {                                        \
            const int8_t *next = weights;                                                                 \
            int32_t sums[2] = {0}, sum = 0;                                                               \
            edge_widen_row(x, s->inputs, workspace);                                                      \
            for (int32_t f = 0, r = 0; f < s->filters; f++, memory += s->memory) {                        \
                if (f % 2 == 0) next = edge_two_rows(next, workspace, fours, sums);                   \
                int32_t feature = edge_feature(sums[f % 2] + starts[f], s, least, most);                  \
                sum = edge_remember_fast_##suffix(memory, time + f * s->memory, s, feature, sum);           \
                if (++r < s->rank) continue;                                                              \
                *y++ = edge_svdf_output(edge_wrapped_sum(sum, *bias++), s);                                                \
                r = 0, sum = 0;                                                                           \
            }                                                                                             \
            bias -= s->filters / s->rank;                                                                 \
        }                                                                                                 \
    }

EDGE_SVDF(s8, int8_t, INT8_MIN, INT8_MAX)
EDGE_SVDF(s16, int16_t, INT16_MIN, INT16_MAX)
