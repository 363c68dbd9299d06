/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* How hybrid ops quantize floats to int8 as they come: equal bit for bit to firmware_tools/hybrid.py. */
#ifndef EDGE_HYBRID_H
#define EDGE_HYBRID_H

#include "elementary.h"
#include <stddef.h>

typedef struct {
    float scale; /* x is (integer - zero_point) * scale */
    int32_t zero_point;
} edge_hybrid;

/* To nearest, halves away from zero, and inside the limits. */
static inline int32_t edge_half_away(float x, int32_t least, int32_t most) {
    float whole = edge_truncate(x);
    if (edge_absolute(x - whole) >= 0.5f) whole = whole + edge_with_sign(1.0f, x);
    return whole < (float)least ? least : whole > (float)most ? most : (int32_t)whole;
}

EDGE_FUNCTION edge_hybrid edge_quantize_symmetric(const float *x, int8_t *values, size_t count) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) largest = edge_absolute(x[i]) > largest ? edge_absolute(x[i]) : largest;
    edge_hybrid how = {largest == 0.0f ? 1.0f : largest / 127.0f, 0};
    float inverse = largest == 0.0f ? 0.0f : 127.0f / largest;
    for (size_t i = 0; i < count; i++) values[i] = (int8_t)edge_half_away(x[i] * inverse, -127, 127);
    return how;
}

/* The zero point, from the least and the largest in steps of the scale. */
static inline int32_t edge_zero_point(double below, double above) {
    double at = 128.0 - below < 127.0 + above ? -128.0 - below : 127.0 - above;
    if (at < -128.0) return -128;
    if (at > 127.0) return 127;
    int32_t whole = (int32_t)at;
    double rest = at - (double)whole;
    return rest >= 0.5 ? whole + 1 : rest <= -0.5 ? whole - 1 : whole;
}

EDGE_FUNCTION edge_hybrid edge_quantize_asymmetric(const float *x, int8_t *values, size_t count) {
    edge_hybrid how = {1.0f, 0};
    float least = 0.0f, most = 0.0f;
    for (size_t i = 0; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    if (least == most) {
        for (size_t i = 0; i < count; i++) values[i] = 0;
        return how;
    }
    double scale = ((double)most - (double)least) / 255.0;
    how.zero_point = edge_zero_point((double)least / scale, (double)most / scale);
    how.scale = (float)scale;
    float inverse = 1.0f / how.scale, offset = (float)how.zero_point;
    for (size_t i = 0; i < count; i++) values[i] = (int8_t)edge_half_away(offset + x[i] * inverse, -128, 127);
    return how;
}

static inline edge_hybrid edge_quantize_hybrid(const float *x, int8_t *values, size_t count, int is_asymmetric) {
    return is_asymmetric ? edge_quantize_asymmetric(x, values, count) : edge_quantize_symmetric(x, values, count);
}

/* The dot product of stored weights with quantized numbers, the zero point taken off. */
static inline int32_t edge_hybrid_dot(const int8_t *weights, const int8_t *values, size_t count, int32_t zero_point) {
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += weights[i] * (values[i] - zero_point);
    return sum;
}

#endif
