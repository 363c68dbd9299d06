/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_BINARY_H
#define EDGE_BINARY_H

#include "broadcast.h"

/* Each: y = the function of a and b, element by element in the loops of shape, floats clamped to least … most; y may be
 * an operand that does not repeat. */
void edge_binary_add_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                         float most);
void edge_binary_sub_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                         float most);
void edge_binary_mul_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                         float most);
void edge_binary_maximum_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                             float most);
void edge_binary_minimum_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                             float most);
void edge_binary_div_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                         float most);
void edge_binary_squared_difference_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                                        float most);
void edge_binary_pow_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                         float most);
void edge_binary_prelu_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                           float most);
void edge_binary_floor_div_f32(const float *a, const float *b, float *y, const edge_broadcast *shape, float least,
                               float most);
void edge_binary_add_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);
void edge_binary_sub_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);
void edge_binary_mul_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);
void edge_binary_maximum_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);
void edge_binary_minimum_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);
void edge_binary_squared_difference_s32(const int32_t *a, const int32_t *b, int32_t *y, const edge_broadcast *shape);

#endif
