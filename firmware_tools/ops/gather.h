/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_GATHER_H
#define EDGE_GATHER_H

#include <stddef.h>
#include <stdint.h>

/* y[batches][outer][count] = rows number indices[batches][count] of table[batches][outer][rows], each of row_bytes. An
 * index outside the table takes its nearest row. */
void edge_gather(const void *table, const int32_t *indices, void *y, size_t batches, size_t outer, size_t rows,
                 size_t row_bytes, size_t count);

#endif
