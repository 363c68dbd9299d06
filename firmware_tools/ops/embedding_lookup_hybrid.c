/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "embedding_lookup_hybrid.h"

void edge_embedding_lookup_hybrid(const int32_t *indices, float *y, const int8_t *table, const float *scales,
                                  size_t count, size_t rows, size_t dim) {
    for (; count--; indices++) {
        size_t row = *indices < 0 ? 0 : (size_t)*indices < rows ? (size_t)*indices : rows - 1;
        const int8_t *from = table + row * dim;
        for (size_t i = 0; i < dim; i++) *y++ = (float)from[i] * scales[row];
    }
}
