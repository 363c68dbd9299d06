/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ARG_MAX_H
#define EDGE_ARG_MAX_H

#include <stddef.h>
#include <stdint.h>

/* Each: y[outer][inner] = where the largest or smallest of x[outer][size][inner] is; the first of equal ones. */
void edge_arg_max_f32(const float *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_max_s32(const int32_t *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_max_s16(const int16_t *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_max_s8(const int8_t *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_min_f32(const float *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_min_s32(const int32_t *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_min_s16(const int16_t *x, int32_t *y, size_t outer, size_t size, size_t inner);
void edge_arg_min_s8(const int8_t *x, int32_t *y, size_t outer, size_t size, size_t inner);

#endif
