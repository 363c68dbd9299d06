/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the kernels of an SVDF share: the memory of a filter, and an output of the filters of a unit. */
#ifndef EDGE_SVDF_STEP_H
#define EDGE_SVDF_STEP_H

#include "requantize.h"
#include "svdf.h"

static inline int32_t edge_feature(int32_t sum, const edge_svdf *s, int32_t least, int32_t most) {
    return edge_clamp(edge_scale_twice_rounded(sum, s->multiplier, s->exponent), least, most);
}

static inline int8_t edge_svdf_output(int32_t sum, const edge_svdf *s) {
    int32_t y = edge_scale_twice_rounded(sum, s->out_multiplier, s->out_exponent) + s->zero_point;
    return (int8_t)edge_clamp(y, s->least, s->most);
}

/* Sums of 32 bits wrap, as they do in TFLite's kernel as it is compiled. */
static inline int32_t edge_wrapped_sum(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* Makes a function that moves a filter's memory by one, appends the feature, and adds the product with time. */
#define EDGE_REMEMBER(name, type)                                                                         \
    static inline int32_t name(type *memory, const type *time, const edge_svdf *s, int32_t feature, int32_t sum) { \
        int32_t last = s->memory - 1;                                                                     \
        for (int32_t k = 0; k < last; k++) {                                                              \
            memory[k] = memory[k + 1];                                                                    \
            sum = edge_wrapped_sum(sum, (type)(memory[k] + s->start) * time[k]);                          \
        }                                                                                                 \
        memory[last] = (type)(feature - s->start);                                                        \
        return edge_wrapped_sum(sum, feature * time[last]);                                               \
    }

EDGE_REMEMBER(edge_remember_s8, int8_t)
EDGE_REMEMBER(edge_remember_s16, int16_t)

#endif
