/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_HYBRID_H
#define EDGE_FULLY_CONNECTED_HYBRID_H

#include "fully_connected.h"
#include "fully_connected_float.h"
#include "fully_connected_int4.h"

/* For each of count rows y[rows] = weights[rows][columns] x (+ bias, where it is not NULL), x[columns] quantized on the
 * way, with a zero point where is_asymmetric; scales[rows]; workspace: a byte a column. */
void edge_fully_connected_hybrid(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, int is_asymmetric,
                                 void *workspace);

#endif
