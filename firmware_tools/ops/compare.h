/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_COMPARE_H
#define EDGE_COMPARE_H

#include "broadcast.h"

/* Each: y = whether a and b are so, element by element in the loops of shape. */
void edge_compare_less_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_less_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_less_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_less_equal_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_less_equal_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_less_equal_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_equal_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_equal_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_greater_equal_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_equal_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_equal_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_equal_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_equal_b8(const uint8_t *a, const uint8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_not_equal_f32(const float *a, const float *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_not_equal_s32(const int32_t *a, const int32_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_not_equal_s8(const int8_t *a, const int8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_not_equal_b8(const uint8_t *a, const uint8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_and_b8(const uint8_t *a, const uint8_t *b, uint8_t *y, const edge_broadcast *shape);
void edge_compare_or_b8(const uint8_t *a, const uint8_t *b, uint8_t *y, const edge_broadcast *shape);

#endif
