/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "reduce_float.h"

#include "exp.h"

/* From start on, each element v changes the result r. */
#define EDGE_REDUCE(name, start, step, end)                                                     \
    void edge_reduce_##name(const float *x, float *y, const edge_float_reduction *s) {                \
        for (size_t i = 0; i < s->kept[0]; i++)                                                 \
            for (size_t j = 0; j < s->kept[1]; j++) {                                           \
                const float *at = x + i * s->kept_step[0] + j * s->kept_step[1];                \
                float r = (start);                                                              \
                for (size_t k = 0; k < s->reduced[0]; k++) {                                    \
                    const float *from = at + k * s->reduced_step[0];                            \
                    EDGE_ROLLED                                                                 \
                    for (size_t n = s->reduced[1]; n--; from += s->reduced_step[1]) {           \
                        float v = *from;                                                        \
                        r = (step);                                                             \
                    }                                                                           \
                }                                                                               \
                *y++ = (end);                                                                   \
            }                                                                                   \
    }

EDGE_REDUCE(sum, 0.0f, r + v, r)
EDGE_REDUCE(mean, 0.0f, r + v, r / (float)(s->reduced[0] * s->reduced[1]))
EDGE_REDUCE(max, *at, v > r ? v : r, r)
EDGE_REDUCE(min, *at, v < r ? v : r, r)
EDGE_REDUCE(product, 1.0f, r * v, r)
