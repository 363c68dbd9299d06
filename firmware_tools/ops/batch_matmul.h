/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_BATCH_MATMUL_H
#define EDGE_BATCH_MATMUL_H

#include "broadcast.h"

/* y[m][n] = a[m][k] b[k][n] for each matrix of the loops, whose steps are in matrices. A row of a is a_row elements
 * after the one before it, a column a_column; likewise of b. */
void edge_batch_matmul_f32(const float *a, const float *b, float *y, size_t m, size_t k, size_t n, size_t a_row,
                           size_t a_column, size_t b_row, size_t b_column, const edge_broadcast *loops);

#endif
