/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "unary_float.h"

#include "elementary.h"

static inline float between(float x, float least, float most) { return x < least ? least : x > most ? most : x; }

#define EDGE_UNARY(name, expression)                                       \
    void edge_unary_##name(const float *x, float *y, size_t count) {       \
        EDGE_ROLLED                                                        \
        for (size_t i = 0; i < count; i++) {                               \
            float v = x[i];                                                \
            y[i] = (expression);                                           \
        }                                                                  \
    }

EDGE_UNARY(absolute, edge_absolute(v))
EDGE_UNARY(negative, -v)
EDGE_UNARY(sqrt, __builtin_sqrtf(v))
EDGE_UNARY(rsqrt, 1.0f / __builtin_sqrtf(v))
EDGE_UNARY(square, v * v)
EDGE_UNARY(exp, edge_e_to(v))
EDGE_UNARY(log, edge_log(v))
EDGE_UNARY(sin, edge_circle(v, 0))
EDGE_UNARY(cos, edge_circle(v, 1))
EDGE_UNARY(tanh, edge_tanh(v))
EDGE_UNARY(logistic, edge_logistic(v))
EDGE_UNARY(floor, edge_floor(v))
EDGE_UNARY(ceil, edge_ceil(v))
EDGE_UNARY(round, edge_rint(v) + 0.0f)
EDGE_UNARY(sign, v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v)
EDGE_UNARY(relu, v < 0.0f ? 0.0f : v)
EDGE_UNARY(relu6, between(v, 0.0f, 6.0f))
EDGE_UNARY(relu_n1_to_1, between(v, -1.0f, 1.0f))
EDGE_UNARY(relu_0_to_1, between(v, 0.0f, 1.0f))
EDGE_UNARY(elu, v < 0.0f ? edge_expm1(v) : v)
EDGE_UNARY(hard_swish, v * between(v + 3.0f, 0.0f, 6.0f) / 6.0f)
EDGE_UNARY(gelu, v * 0.5f * edge_erfc(v * -0.707106781f))
EDGE_UNARY(gelu_approximate, 0.5f * v * (1.0f + edge_tanh(0.797884561f * (v + 0.044715f * v * v * v))))

void edge_unary_leaky_relu(const float *x, float *y, size_t count, float alpha) {
    for (size_t i = 0; i < count; i++) y[i] = x[i] > 0.0f ? x[i] : x[i] * alpha;
}
