/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "binary_int8.h"
#include "requantize.h"

/* A number of up to 30 bits, doubled, on another scale, rounded twice: what edge_scale_twice_rounded does for exponents
 * that are not positive, in few instructions. */
typedef struct {
    int32_t multiplier, half, shift, away;
} edge_scale;

static inline edge_scale edge_scale_of(const edge_binary *shape, int32_t i) {
    int32_t shift = -shape->exponents[i];
    edge_scale scale = {shape->multipliers[i], shift > 0 ? 1 << (shift - 1) : 0, shift, shift > 0 ? -1 : 0};
    return scale;
}

static inline int32_t edge_scaled(int32_t doubled, edge_scale scale) {
    int32_t high = (int32_t)(((int64_t)doubled * scale.multiplier + ((int64_t)1 << 31)) >> 32);
    return (high + (high >> 31 & scale.away) + scale.half) >> scale.shift;
}

/* Makes a function that walks all axes; `setup` declares what `value`, an expression of a, b and shape, needs. */
#define EDGE_BINARY(name, setup, value)                                                             \
    void name(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape) {              \
        int32_t at[EDGE_BINARY_RANK] = {0}, inner = shape->rank - 1, axis;                          \
        int32_t count = shape->axes[inner].count;                                                   \
        int32_t a_step = shape->axes[inner].a_step, b_step = shape->axes[inner].b_step;             \
        setup;                                                                                      \
        do {                                                                                        \
            const int8_t *pa = a, *pb = b;                                                          \
            for (int32_t i = 0; i < count; i++, pa += a_step, pb += b_step) {                       \
                int32_t va = *pa, vb = *pb;                                                         \
                *y++ = (int8_t)(value);                                                             \
            }                                                                                       \
            for (axis = inner - 1; axis >= 0; axis--) { /* to the next of the outer axes */         \
                a += shape->axes[axis].a_step, b += shape->axes[axis].b_step;                       \
                if (++at[axis] < shape->axes[axis].count) break;                                    \
                a -= shape->axes[axis].a_step * at[axis], b -= shape->axes[axis].b_step * at[axis]; \
                at[axis] = 0;                                                                       \
            }                                                                                       \
        } while (axis >= 0);                                                                        \
    }

#define EDGE_SUM_SETUP                                                                              \
    int32_t za = shape->zero_points[0], zb = shape->zero_points[1], zy = shape->zero_points[2];     \
    int32_t least = shape->least, most = shape->most;                                               \
    edge_scale sa = edge_scale_of(shape, 0), sb = edge_scale_of(shape, 1), sy = edge_scale_of(shape, 2)

/* 20 bits beside, and one for the doubling */
#define EDGE_SUM(sign)                                                                              \
    edge_clamp(zy + edge_scaled(2 * (edge_scaled((va - za) * (1 << 21), sa) sign                    \
                                     edge_scaled((vb - zb) * (1 << 21), sb)), sy), least, most)

EDGE_BINARY(edge_add_int8, EDGE_SUM_SETUP, EDGE_SUM(+))
EDGE_BINARY(edge_sub_int8, EDGE_SUM_SETUP, EDGE_SUM(-))
EDGE_BINARY(edge_mul_int8,
            int32_t za = shape->zero_points[0]; int32_t zb = shape->zero_points[1];
            int32_t zy = shape->zero_points[2]; int32_t least = shape->least; int32_t most = shape->most;
            int32_t multiplier = shape->multipliers[0]; int32_t exponent = shape->exponents[0],
            edge_clamp(zy + edge_scale_twice_rounded((va - za) * (vb - zb), multiplier, exponent), least, most))
EDGE_BINARY(edge_maximum_int8, (void)0, va > vb ? va : vb)
EDGE_BINARY(edge_minimum_int8, (void)0, va < vb ? va : vb)
