/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SOFTMAX_INT16_H
#define EDGE_SOFTMAX_INT16_H

#include <stdint.h>

/* y[rows][depth] of x, in units of 2^-16 less 32768. table[entries]: exponentials of differences. */
void edge_softmax_s8_s16(const int8_t *x, int16_t *y, const int32_t *table, int32_t rows, int32_t depth,
                         int32_t entries);

#endif
