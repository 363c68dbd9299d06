/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_BINARY_INT16_H
#define EDGE_BINARY_INT16_H

#include "binary_int8.h"

/* As those of binary_int8.h, of int16 tensors; add and sub have 15 bits beside instead of 20. */
void edge_add_int16(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape);
void edge_sub_int16(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape);
void edge_mul_int16(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape);
void edge_maximum_int16(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape);
void edge_minimum_int16(const int16_t *a, const int16_t *b, int16_t *y, const edge_binary *shape);

#endif
