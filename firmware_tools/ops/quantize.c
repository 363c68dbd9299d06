/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "quantize.h"
#include "requantize.h"

#define EDGE_FARTHEST 8388608.0f /* 2^23 steps from zero; floats have no halves beyond */

/* round(x / scale), halves away from zero. */
static inline int32_t edge_steps(float x, float scale) {
    float steps = x / scale;
    if (!(steps > -EDGE_FARTHEST)) return steps != steps ? 0 : -(int32_t)EDGE_FARTHEST;
    if (steps >= EDGE_FARTHEST) return (int32_t)EDGE_FARTHEST;
    int32_t whole = (int32_t)steps;
    float rest = steps - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

#define EDGE_LEAST_s8 INT8_MIN
#define EDGE_MOST_s8 INT8_MAX
#define EDGE_LEAST_u8 0
#define EDGE_MOST_u8 UINT8_MAX
#define EDGE_LEAST_s16 INT16_MIN
#define EDGE_MOST_s16 INT16_MAX
#define EDGE_LEAST_s32 INT32_MIN
#define EDGE_MOST_s32 INT32_MAX

#undef EDGE_QUANTIZE_TO
#undef EDGE_DEQUANTIZE_FROM
#undef EDGE_REQUANTIZE
#define EDGE_QUANTIZE_TO(name, type)                                                                \
    void edge_quantize_f32_##name(const float *x, type *y, int32_t count, int32_t zero_point, float scale) { \
        for (int32_t i = 0; i < count; i++)                                                         \
            y[i] = (type)edge_clamp(zero_point + edge_steps(x[i], scale), EDGE_LEAST_##name, EDGE_MOST_##name); \
    }
#define EDGE_DEQUANTIZE_FROM(name, type)                                                            \
    void edge_dequantize_##name(const type *x, float *y, int32_t count, int32_t zero_point, float scale) { \
        for (int32_t i = 0; i < count; i++) y[i] = scale * (float)(x[i] - zero_point);              \
    }
#define EDGE_REQUANTIZE(from, from_type, to, to_type)                                               \
    void edge_quantize_##from##_##to(const from_type *x, to_type *y, int32_t count, int32_t zero_point, \
                                     int32_t out_zero_point, int32_t multiplier, int32_t exponent) { \
        for (int32_t i = 0; i < count; i++) {                                                       \
            int32_t scaled = edge_scale_twice_rounded(x[i] - zero_point, multiplier, exponent);     \
            y[i] = (to_type)edge_clamp(scaled + out_zero_point, EDGE_LEAST_##to, EDGE_MOST_##to);   \
        }                                                                                           \
    }

EDGE_QUANTIZE_KERNELS
