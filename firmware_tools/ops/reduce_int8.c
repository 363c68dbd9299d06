/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "reduce_int8.h"
#include "requantize.h"

/* Makes a function for each reduction: `take` takes element *e into `so_far`, which begins as `first`. */
#define EDGE_REDUCE(name, first, take, end)                                                         \
    static int32_t name##_of(const int8_t *x, const edge_reduction *shape) {                        \
        int32_t so_far = first;                                                                     \
        const edge_reduce_axis *a = shape->reduced;                                                 \
        for (int32_t i = 0; i < a[0].count; i++)                                                    \
            for (int32_t j = 0; j < a[1].count; j++)                                                \
                for (int32_t k = 0; k < a[2].count; k++) {                                          \
                    const int8_t *e = x + i * a[0].step + j * a[1].step + k * a[2].step;            \
                    for (int32_t l = 0; l < a[3].count; l++, e += a[3].step) take;                  \
                }                                                                                   \
        return end;                                                                                 \
    }                                                                                               \
    void name(const int8_t *x, int8_t *y, const edge_reduction *shape) {                            \
        const edge_reduce_axis *a = shape->kept;                                                    \
        for (int32_t i = 0; i < a[0].count; i++)                                                    \
            for (int32_t j = 0; j < a[1].count; j++)                                                \
                for (int32_t k = 0; k < a[2].count; k++)                                            \
                    for (int32_t l = 0; l < a[3].count; l++)                                        \
                        *y++ = (int8_t)name##_of(x + i * a[0].step + j * a[1].step + k * a[2].step + l * a[3].step, \
                                                 shape);                                            \
    }

EDGE_REDUCE(edge_reduce_sum_int8, shape->start, so_far += *e,
            edge_clamp(shape->zero_point + edge_scale_twice_rounded(so_far, shape->multiplier, shape->exponent),
                       INT8_MIN, INT8_MAX))
EDGE_REDUCE(edge_reduce_max_int8, INT8_MIN, (so_far = *e > so_far ? *e : so_far), so_far)
EDGE_REDUCE(edge_reduce_min_int8, INT8_MAX, (so_far = *e < so_far ? *e : so_far), so_far)
