/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "binary_int16.h"

#include "requantize.h"

#define EDGE_LEFT_SHIFT 15

/* To the next place of the outer axes; 0 at the end. */
static int edge_advance(const edge_binary *shape, int32_t *at, const int16_t **a, const int16_t **b) {
    for (int32_t axis = shape->rank - 2; axis >= 0; axis--) {
        *a += shape->axes[axis].a_step, *b += shape->axes[axis].b_step;
        if (++at[axis] < shape->axes[axis].count) return 1;
        *a -= shape->axes[axis].a_step * at[axis], *b -= shape->axes[axis].b_step * at[axis];
        at[axis] = 0;
    }
    return 0;
}

static inline int32_t edge_scaled_by(int32_t x, const edge_binary *shape, int32_t i) {
    return edge_scale_twice_rounded(x, shape->multipliers[i], shape->exponents[i]);
}

/* Makes a function that walks all axes; `value` is an expression of va, vb and shape. */
#define EDGE_BINARY(name, value)                                                                          \
    void name(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape) {                 \
        int32_t at[EDGE_BINARY_RANK] = {0}, inner = shape->rank - 1;                                      \
        do {                                                                                              \
            const int16_t *pa = a, *pb = b;                                                               \
            for (int32_t i = 0; i < shape->axes[inner].count; i++) {                                      \
                int32_t va = *pa, vb = *pb;                                                               \
                *y++ = (int16_t)(value);                                                                  \
                pa += shape->axes[inner].a_step, pb += shape->axes[inner].b_step;                         \
            }                                                                                             \
        } while (edge_advance(shape, at, &a, &b));                                                        \
    }

#define EDGE_SUM(sign)                                                                                    \
    edge_clamp(edge_scaled_by(edge_scaled_by(va * (1 << EDGE_LEFT_SHIFT), shape, 0) sign                  \
                              edge_scaled_by(vb * (1 << EDGE_LEFT_SHIFT), shape, 1), shape, 2),           \
               shape->least, shape->most)

EDGE_BINARY(edge_add_int16, EDGE_SUM(+))
EDGE_BINARY(edge_sub_int16, EDGE_SUM(-))
EDGE_BINARY(edge_mul_int16, edge_clamp(edge_scaled_by(va * vb, shape, 0), shape->least, shape->most))
EDGE_BINARY(edge_maximum_int16, va > vb ? va : vb)
EDGE_BINARY(edge_minimum_int16, va < vb ? va : vb)
