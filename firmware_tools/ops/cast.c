/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "cast.h"

/* Towards zero, inside the target's range. */
static inline int32_t whole(float x, int32_t least, int32_t most) {
    if (!(x > (float)least)) return x <= (float)least ? least : 0; /* 0: not a number */
    return x >= (float)most ? most : (int32_t)x;
}

#define EDGE_CAST(from, source, to, target, expression)                                \
    void edge_cast_##from##_##to(const source *x, target *y, size_t count) {           \
        for (size_t i = 0; i < count; i++) {                                           \
            source v = x[i];                                                           \
            y[i] = (target)(expression);                                               \
        }                                                                              \
    }

EDGE_CAST(f32, float, f32, float, v)
EDGE_CAST(f32, float, s32, int32_t, whole(v, INT32_MIN, INT32_MAX))
EDGE_CAST(f32, float, s16, int16_t, whole(v, -32768, 32767))
EDGE_CAST(f32, float, s8, int8_t, whole(v, -128, 127))
EDGE_CAST(f32, float, u8, uint8_t, whole(v, 0, 255))
EDGE_CAST(f32, float, b8, uint8_t, v != 0)
EDGE_CAST(s32, int32_t, f32, float, v)
EDGE_CAST(s32, int32_t, s32, int32_t, v)
EDGE_CAST(s32, int32_t, s16, int16_t, v)
EDGE_CAST(s32, int32_t, s8, int8_t, v)
EDGE_CAST(s32, int32_t, u8, uint8_t, v)
EDGE_CAST(s32, int32_t, b8, uint8_t, v != 0)
EDGE_CAST(s16, int16_t, f32, float, v)
EDGE_CAST(s16, int16_t, s32, int32_t, v)
EDGE_CAST(s16, int16_t, s16, int16_t, v)
EDGE_CAST(s16, int16_t, s8, int8_t, v)
EDGE_CAST(s16, int16_t, u8, uint8_t, v)
EDGE_CAST(s16, int16_t, b8, uint8_t, v != 0)
EDGE_CAST(s8, int8_t, f32, float, v)
EDGE_CAST(s8, int8_t, s32, int32_t, v)
EDGE_CAST(s8, int8_t, s16, int16_t, v)
EDGE_CAST(s8, int8_t, s8, int8_t, v)
EDGE_CAST(s8, int8_t, u8, uint8_t, v)
EDGE_CAST(s8, int8_t, b8, uint8_t, v != 0)
EDGE_CAST(u8, uint8_t, f32, float, v)
EDGE_CAST(u8, uint8_t, s32, int32_t, v)
EDGE_CAST(u8, uint8_t, s16, int16_t, v)
EDGE_CAST(u8, uint8_t, s8, int8_t, v)
EDGE_CAST(u8, uint8_t, u8, uint8_t, v)
EDGE_CAST(u8, uint8_t, b8, uint8_t, v != 0)
EDGE_CAST(b8, uint8_t, f32, float, v)
EDGE_CAST(b8, uint8_t, s32, int32_t, v)
EDGE_CAST(b8, uint8_t, s16, int16_t, v)
EDGE_CAST(b8, uint8_t, s8, int8_t, v)
EDGE_CAST(b8, uint8_t, u8, uint8_t, v)
EDGE_CAST(b8, uint8_t, b8, uint8_t, v != 0)
