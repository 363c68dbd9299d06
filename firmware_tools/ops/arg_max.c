/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "arg_max.h"

#define EDGE_ARG(name, suffix, type, better)                                                         \
    void edge_arg_##name##_##suffix(const type *x, int32_t *y, size_t outer, size_t size, size_t inner) { \
        for (; outer--; x += size * inner)                                                           \
            for (size_t i = 0; i < inner; i++) {                                                     \
                size_t best = 0;                                                                     \
                for (size_t n = 1; n < size; n++)                                                    \
                    if (x[n * inner + i] better x[best * inner + i]) best = n;                       \
                *y++ = (int32_t)best;                                                                \
            }                                                                                        \
    }

EDGE_ARG(max, f32, float, >)
EDGE_ARG(max, s32, int32_t, >)
EDGE_ARG(max, s16, int16_t, >)
EDGE_ARG(max, s8, int8_t, >)
EDGE_ARG(min, f32, float, <)
EDGE_ARG(min, s32, int32_t, <)
EDGE_ARG(min, s16, int16_t, <)
EDGE_ARG(min, s8, int8_t, <)
