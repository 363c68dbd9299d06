/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_BINARY_INT8_H
#define EDGE_BINARY_INT8_H

#include <stdint.h>

#define EDGE_BINARY_RANK 6

typedef struct {
    int32_t rank;
    struct {
        int32_t count, a_step, b_step; /* a step of 0: the same element again */
    } axes[EDGE_BINARY_RANK];
    int32_t least, most; /* of y */
    int32_t zero_points[3]; /* of a, b and y */
    int32_t multipliers[3], exponents[3];
} edge_binary;

/* y, one element for each of all axes, from the outer to the inner; y may be an input that has as many. */
void edge_add_int8(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);
void edge_sub_int8(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);
void edge_mul_int8(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);
void edge_maximum_int8(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);
void edge_minimum_int8(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);

/* The same where both inputs step by 1 along the inner axis and y's exponent is -1 to -22. */
void edge_add_int8_dsp(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);
void edge_mul_int8_dsp(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape);

#endif
