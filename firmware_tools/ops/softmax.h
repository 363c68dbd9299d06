/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SOFTMAX_H
#define EDGE_SOFTMAX_H

#include <stdint.h>

/* y[rows][depth] of x, in units of 1/256 less 128; y may be x. table[entries]: exponentials of differences. */
void edge_softmax_s8(const int8_t *x, int8_t *y, const int32_t *table, int32_t rows, int32_t depth, int32_t entries);

#endif
