/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SOFTMAX_FLOAT_H
#define EDGE_SOFTMAX_FLOAT_H

#include <stddef.h>

/* y[rows][n] = softmax of each row of beta x; y may be x. */
void edge_softmax_f32(const float *x, float *y, size_t rows, size_t n, float beta);
/* Its logarithm. */
void edge_log_softmax_f32(const float *x, float *y, size_t rows, size_t n);

#endif
