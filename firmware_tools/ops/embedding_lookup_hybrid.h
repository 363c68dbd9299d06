/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_EMBEDDING_LOOKUP_HYBRID_H
#define EDGE_EMBEDDING_LOOKUP_HYBRID_H

#include <stddef.h>
#include <stdint.h>

/* y[count][dim] = rows number indices[count] of table[rows][dim] times their scales[rows]. */
void edge_embedding_lookup_hybrid(const int32_t *indices, float *y, const int8_t *table, const float *scales,
                                  size_t count, size_t rows, size_t dim);

#endif
