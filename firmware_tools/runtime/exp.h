/* exp() in single IEEE operations: equal bit for bit to firmware_tools/exp.py, whose text explains it. */
#ifndef EDGE_EXP_H
#define EDGE_EXP_H

#include <stdint.h>
#include <string.h>

#define EDGE_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds a float below 2^22 to the nearest even integer */

/* The nearest integer to x, ties to even, for |x| < 2^22; numpy's rint. */
static inline int32_t edge_round(float x) {
    float shifted = x + EDGE_ROUND_MAGIC;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}

static inline float edge_exp(float x) {
    if (x < -87.0f) x = -87.0f;
    if (x > 88.0f) x = 88.0f;
    float power = x * 1.4426950408889634f;
    int32_t whole = edge_round(power);
    float fraction = power - (float)whole;
    float result = 1.32647273e-3f;
    result = result * fraction + 9.67151299e-3f;
    result = result * fraction + 5.55073358e-2f;
    result = result * fraction + 2.40222424e-1f;
    result = result * fraction + 6.93147004e-1f;
    result = result * fraction + 1.0f;
    uint32_t bits;
    memcpy(&bits, &result, sizeof bits);
    bits += (uint32_t)whole << 23;
    memcpy(&result, &bits, sizeof bits);
    return result;
}

#endif
