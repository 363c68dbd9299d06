/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_QUANTIZE_H
#define EDGE_QUANTIZE_H

#include <stdint.h>

/* y[count] of x: floats to integers, integers to floats, integers to integers. */
#define EDGE_QUANTIZE_TO(name, type) \
    void edge_quantize_f32_##name(const float *x, type *y, int32_t count, int32_t zero_point, float scale);
#define EDGE_DEQUANTIZE_FROM(name, type) \
    void edge_dequantize_##name(const type *x, float *y, int32_t count, int32_t zero_point, float scale);
#define EDGE_REQUANTIZE(from, from_type, to, to_type)                                               \
    void edge_quantize_##from##_##to(const from_type *x, to_type *y, int32_t count, int32_t zero_point, \
                                     int32_t out_zero_point, int32_t multiplier, int32_t exponent);

#define EDGE_QUANTIZE_KERNELS                                                                       \
    EDGE_QUANTIZE_TO(s8, int8_t) EDGE_QUANTIZE_TO(u8, uint8_t)                                      \
    EDGE_QUANTIZE_TO(s16, int16_t) EDGE_QUANTIZE_TO(s32, int32_t)                                   \
    EDGE_DEQUANTIZE_FROM(s8, int8_t) EDGE_DEQUANTIZE_FROM(u8, uint8_t)                              \
    EDGE_DEQUANTIZE_FROM(s16, int16_t)                                                              \
    EDGE_REQUANTIZE(s16, int16_t, s16, int16_t) EDGE_REQUANTIZE(s16, int16_t, s8, int8_t)           \
    EDGE_REQUANTIZE(s16, int16_t, u8, uint8_t) EDGE_REQUANTIZE(s16, int16_t, s32, int32_t)          \
    EDGE_REQUANTIZE(s8, int8_t, s16, int16_t) EDGE_REQUANTIZE(s8, int8_t, s32, int32_t)             \
    EDGE_REQUANTIZE(u8, uint8_t, s16, int16_t) EDGE_REQUANTIZE(u8, uint8_t, s32, int32_t)          \
    EDGE_REQUANTIZE(s32, int32_t, s8, int8_t) EDGE_REQUANTIZE(s32, int32_t, s16, int16_t)

EDGE_QUANTIZE_KERNELS

#endif
