/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_CAST_H
#define EDGE_CAST_H

#include <stddef.h>
#include <stdint.h>

/* Each: y[count] = x as another type: s8 … s32 signed integers, u8 unsigned, b8 bool, f32 float. */
void edge_cast_f32_f32(const float *x, float *y, size_t count);
void edge_cast_f32_s32(const float *x, int32_t *y, size_t count);
void edge_cast_f32_s16(const float *x, int16_t *y, size_t count);
void edge_cast_f32_s8(const float *x, int8_t *y, size_t count);
void edge_cast_f32_u8(const float *x, uint8_t *y, size_t count);
void edge_cast_f32_b8(const float *x, uint8_t *y, size_t count);
void edge_cast_s32_f32(const int32_t *x, float *y, size_t count);
void edge_cast_s32_s32(const int32_t *x, int32_t *y, size_t count);
void edge_cast_s32_s16(const int32_t *x, int16_t *y, size_t count);
void edge_cast_s32_s8(const int32_t *x, int8_t *y, size_t count);
void edge_cast_s32_u8(const int32_t *x, uint8_t *y, size_t count);
void edge_cast_s32_b8(const int32_t *x, uint8_t *y, size_t count);
void edge_cast_s16_f32(const int16_t *x, float *y, size_t count);
void edge_cast_s16_s32(const int16_t *x, int32_t *y, size_t count);
void edge_cast_s16_s16(const int16_t *x, int16_t *y, size_t count);
void edge_cast_s16_s8(const int16_t *x, int8_t *y, size_t count);
void edge_cast_s16_u8(const int16_t *x, uint8_t *y, size_t count);
void edge_cast_s16_b8(const int16_t *x, uint8_t *y, size_t count);
void edge_cast_s8_f32(const int8_t *x, float *y, size_t count);
void edge_cast_s8_s32(const int8_t *x, int32_t *y, size_t count);
void edge_cast_s8_s16(const int8_t *x, int16_t *y, size_t count);
void edge_cast_s8_s8(const int8_t *x, int8_t *y, size_t count);
void edge_cast_s8_u8(const int8_t *x, uint8_t *y, size_t count);
void edge_cast_s8_b8(const int8_t *x, uint8_t *y, size_t count);
void edge_cast_u8_f32(const uint8_t *x, float *y, size_t count);
void edge_cast_u8_s32(const uint8_t *x, int32_t *y, size_t count);
void edge_cast_u8_s16(const uint8_t *x, int16_t *y, size_t count);
void edge_cast_u8_s8(const uint8_t *x, int8_t *y, size_t count);
void edge_cast_u8_u8(const uint8_t *x, uint8_t *y, size_t count);
void edge_cast_u8_b8(const uint8_t *x, uint8_t *y, size_t count);
void edge_cast_b8_f32(const uint8_t *x, float *y, size_t count);
void edge_cast_b8_s32(const uint8_t *x, int32_t *y, size_t count);
void edge_cast_b8_s16(const uint8_t *x, int16_t *y, size_t count);
void edge_cast_b8_s8(const uint8_t *x, int8_t *y, size_t count);
void edge_cast_b8_u8(const uint8_t *x, uint8_t *y, size_t count);
void edge_cast_b8_b8(const uint8_t *x, uint8_t *y, size_t count);

#endif
