/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Elementary functions in single IEEE operations: equal bit for bit to firmware_tools/elementary.py, which has the text,
 * the errors and the origin of the polynomials. */
#ifndef EDGE_ELEMENTARY_H
#define EDGE_ELEMENTARY_H

#include "exp.h"

#define EDGE_FUNCTION __attribute__((unused)) static
#define EDGE_INFINITY __builtin_inff()
#define EDGE_NAN __builtin_nanf("")

static inline float edge_absolute(float x) { return edge_bits_float(edge_float_bits(x) & 0x7FFFFFFFu); }
static inline float edge_with_sign(float x, float sign) {
    return edge_bits_float((edge_float_bits(x) & 0x7FFFFFFFu) | (edge_float_bits(sign) & 0x80000000u));
}
static inline int edge_is_nan(float x) { return x != x; }

/* Towards zero, for any x. */
static inline float edge_truncate(float x) {
    return edge_absolute(x) < 8388608.0f ? edge_with_sign((float)(int32_t)x, x) : x;
}
static inline float edge_floor(float x) {
    float whole = edge_truncate(x);
    return whole > x ? whole - 1.0f : whole;
}
static inline float edge_ceil(float x) {
    float whole = edge_truncate(x);
    return edge_with_sign(whole < x ? whole + 1.0f : whole, x);
}
/* To nearest, ties to even. */
static inline float edge_rint(float x) {
    return edge_absolute(x) < 4194304.0f ? edge_with_sign((x + EDGE_ROUND_MAGIC) - EDGE_ROUND_MAGIC, x) : x;
}

static inline float edge_power_of_two(int32_t exponent) { return edge_bits_float((uint32_t)(exponent + 127) << 23); }

/* e^r - 1 and n, with x = n ln 2 + r. */
static inline float edge_exp_reduced(float x, int32_t *n) {
    float whole = (x * 1.44269504f + EDGE_ROUND_MAGIC) - EDGE_ROUND_MAGIC;
    float r = x - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 0.5f;
    *n = (int32_t)whole;
    return y * (r * r) + r;
}

static inline float edge_exp_inside(float x) { return x < -104.0f ? -104.0f : x > 88.8f ? 88.8f : x; }

EDGE_FUNCTION float edge_e_to(float x) {
    int32_t n;
    if (edge_is_nan(x)) return x;
    float y = edge_exp_reduced(edge_exp_inside(x), &n) + 1.0f;
    int32_t half = n < 0 ? -((1 - n) / 2) : n / 2; /* rounded down */
    return y * edge_power_of_two(half) * edge_power_of_two(n - half);
}

EDGE_FUNCTION float edge_expm1(float x) {
    int32_t n;
    if (edge_is_nan(x)) return x;
    float minus_one = edge_exp_reduced(edge_exp_inside(x), &n);
    return n == 0 ? minus_one : edge_e_to(x) - 1.0f;
}

EDGE_FUNCTION float edge_log(float x) {
    if (edge_is_nan(x) || x < 0.0f) return EDGE_NAN;
    if (x == 0.0f) return -EDGE_INFINITY;
    if (x == EDGE_INFINITY) return x;
    int tiny = x < 1.17549435e-38f;
    uint32_t bits = edge_float_bits(tiny ? x * 8388608.0f : x);
    int32_t e = (int32_t)(bits >> 23 & 255) - 126 - (tiny ? 23 : 0);
    float m = edge_bits_float((bits & 0x7FFFFF) | 0x3F000000);
    if (m < 0.707106781f) {
        e -= 1;
        m = m + m;
    }
    m = m - 1.0f;
    float n = (float)e, z = m * m;
    float y = 7.0376836292e-2f;
    y = y * m + -1.1514610310e-1f;
    y = y * m + 1.1676998740e-1f;
    y = y * m + -1.2420140846e-1f;
    y = y * m + 1.4249322787e-1f;
    y = y * m + -1.6668057665e-1f;
    y = y * m + 2.0000714765e-1f;
    y = y * m + -2.4999993993e-1f;
    y = y * m + 3.3333331174e-1f;
    y = y * z * m;
    y = y + n * -2.12194440e-4f;
    y = y - z * 0.5f;
    return (m + y) + n * 0.693359375f;
}

EDGE_FUNCTION float edge_tanh(float x) {
    float size = edge_absolute(x), z = x * x;
    if (edge_is_nan(x)) return x;
    if (size < 0.625f) {
        float y = -5.70498872745e-3f;
        y = y * z + 2.06390887954e-2f;
        y = y * z + -5.37397155531e-2f;
        y = y * z + 1.33314422036e-1f;
        y = y * z + -3.33332819422e-1f;
        return y * z * x + x;
    }
    return edge_with_sign(1.0f - 2.0f / (edge_e_to((size < 10.0f ? size : 10.0f) * 2.0f) + 1.0f), x);
}

EDGE_FUNCTION float edge_logistic(float x) {
    if (edge_is_nan(x)) return x;
    if (x > 16.619047164916992f) return 1.0f;
    if (x < -9.0f) return edge_e_to(x);
    return 1.0f / (1.0f + edge_e_to(-x));
}

/* sin(x + turn pi / 2). */
EDGE_FUNCTION float edge_circle(float x, int32_t turn) {
    if (!(edge_absolute(x) <= 100000.0f)) return EDGE_NAN;
    float n = (x * 0.636619772f + EDGE_ROUND_MAGIC) - EDGE_ROUND_MAGIC;
    float r = x - n * 1.5703125f;
    r = r - n * 4.837512969970703125e-4f;
    r = r - n * 7.54978995489188216e-8f;
    float z = r * r, y;
    int32_t quadrant = ((int32_t)n + turn) & 3;
    if (quadrant & 1) {
        y = 2.443315711809948e-5f;
        y = y * z + -1.388731625493765e-3f;
        y = y * z + 4.166664568298827e-2f;
        y = y * z * z - z * 0.5f + 1.0f;
    } else {
        y = -1.9515295891e-4f;
        y = y * z + 8.3321608736e-3f;
        y = y * z + -1.6666654611e-1f;
        y = y * z * r + r;
    }
    return quadrant & 2 ? -y : y;
}

EDGE_FUNCTION float edge_erfc(float x) {
    float size = edge_absolute(x);
    if (edge_is_nan(x)) return x;
    if (size <= 1.0f) {
        float z = x * x, y = 7.854024443e-5f;
        y = y * z + -8.010247257e-4f;
        y = y * z + 5.188334268e-3f;
        y = y * z + -2.685381658e-2f;
        y = y * z + 1.128358543e-1f;
        y = y * z + -3.761262596e-1f;
        y = y * z + 1.128379107f;
        return 1.0f - y * x;
    }
    float t = 1.0f / (1.0f + 0.5f * size), y = -2.308016866e-1f;
    y = y * t + 6.366800666e-1f;
    y = y * t + -6.446067989e-2f;
    y = y * t + 3.968020976e-1f;
    y = y * t + 2.597005963e-1f;
    y = y * t + 1.822483027e-3f;
    y = edge_e_to(-(size * size)) * y;
    return x < 0.0f ? 2.0f - y : y;
}

EDGE_FUNCTION float edge_power(float x, float y) {
    if (y == 0.0f || x == 1.0f) return 1.0f;
    if (y == 1.0f) return x;
    if (y == 2.0f) return x * x;
    int whole = edge_absolute(y) >= 8388608.0f, integer = whole || edge_truncate(y) == y;
    int odd = !whole && integer && ((int32_t)y & 1);
    int negative = edge_float_bits(x) >> 31;
    if (negative && !integer && x != 0.0f) return EDGE_NAN;
    float result = edge_e_to(edge_log(edge_absolute(x)) * y);
    return negative && odd ? -result : result;
}

#endif
