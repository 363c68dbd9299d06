/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "binary.h"

#include "elementary.h"

#define EDGE_BINARY_F32(name, expression)                                                                     \
    void edge_binary_##name##_f32(const float *a, const float *b, float *y, const edge_broadcast *shape,     \
                                  float least, float most) {                                                  \
        EDGE_OUTER_LOOPS(shape) {                                                                             \
            const float *pa = a + EDGE_OPERAND_AT(shape, 0), *pb = b + EDGE_OPERAND_AT(shape, 1);             \
            EDGE_ROLLED                                                                                       \
            for (size_t n = shape->size[3]; n--; pa += shape->step[0][3], pb += shape->step[1][3]) {          \
                float p = *pa, q = *pb, v = (expression);                                                     \
                v = v < least ? least : v;                                                                    \
                *y++ = v > most ? most : v;                                                                   \
            }                                                                                                 \
        }                                                                                                     \
    }

/* Unsigned, so that they wrap around. */
#define EDGE_BINARY_S32(name, expression)                                                                     \
    void edge_binary_##name##_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape) { \
        EDGE_OUTER_LOOPS(shape) {                                                                             \
            const int32_t *pa = a + EDGE_OPERAND_AT(shape, 0), *pb = b + EDGE_OPERAND_AT(shape, 1);           \
            EDGE_ROLLED                                                                                       \
            for (size_t n = shape->size[3]; n--; pa += shape->step[0][3], pb += shape->step[1][3]) {          \
                uint32_t p = (uint32_t)*pa, q = (uint32_t)*pb;                                                \
                *y++ = (int32_t)(expression);                                                                 \
            }                                                                                                 \
        }                                                                                                     \
    }

EDGE_BINARY_F32(add, p + q)
EDGE_BINARY_F32(sub, p - q)
EDGE_BINARY_F32(mul, p * q)
EDGE_BINARY_F32(maximum, p > q ? p : q)
EDGE_BINARY_F32(minimum, p < q ? p : q)
EDGE_BINARY_F32(div, p / q)
EDGE_BINARY_F32(squared_difference, (p - q) * (p - q))
EDGE_BINARY_F32(pow, edge_power(p, q))
EDGE_BINARY_F32(prelu, p >= 0.0f ? p : p * q)
EDGE_BINARY_F32(floor_div, edge_floor(p / q))

EDGE_BINARY_S32(add, p + q)
EDGE_BINARY_S32(sub, p - q)
EDGE_BINARY_S32(mul, p * q)
EDGE_BINARY_S32(maximum, (int32_t)p > (int32_t)q ? p : q)
EDGE_BINARY_S32(minimum, (int32_t)p < (int32_t)q ? p : q)
EDGE_BINARY_S32(squared_difference, (p - q) * (p - q))
