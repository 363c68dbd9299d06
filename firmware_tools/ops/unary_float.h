/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_UNARY_FLOAT_H
#define EDGE_UNARY_FLOAT_H

#include <stddef.h>

/* Each: y[count] = the function of x, element by element; y may be x. */
void edge_unary_absolute(const float *x, float *y, size_t count);
void edge_unary_negative(const float *x, float *y, size_t count);
void edge_unary_sqrt(const float *x, float *y, size_t count);
void edge_unary_rsqrt(const float *x, float *y, size_t count);
void edge_unary_square(const float *x, float *y, size_t count);
void edge_unary_exp(const float *x, float *y, size_t count);
void edge_unary_log(const float *x, float *y, size_t count);
void edge_unary_sin(const float *x, float *y, size_t count);
void edge_unary_cos(const float *x, float *y, size_t count);
void edge_unary_tanh(const float *x, float *y, size_t count);
void edge_unary_logistic(const float *x, float *y, size_t count);
void edge_unary_floor(const float *x, float *y, size_t count);
void edge_unary_ceil(const float *x, float *y, size_t count);
void edge_unary_round(const float *x, float *y, size_t count);
void edge_unary_sign(const float *x, float *y, size_t count);
void edge_unary_relu(const float *x, float *y, size_t count);
void edge_unary_relu6(const float *x, float *y, size_t count);
void edge_unary_relu_n1_to_1(const float *x, float *y, size_t count);
void edge_unary_relu_0_to_1(const float *x, float *y, size_t count);
void edge_unary_elu(const float *x, float *y, size_t count);
void edge_unary_hard_swish(const float *x, float *y, size_t count);
void edge_unary_gelu(const float *x, float *y, size_t count);
void edge_unary_gelu_approximate(const float *x, float *y, size_t count);
/* y = x where x is positive, else alpha x. */
void edge_unary_leaky_relu(const float *x, float *y, size_t count, float alpha);

#endif
