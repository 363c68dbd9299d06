/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "gather.h"

void edge_gather(const void *table, const int32_t *indices, void *y, size_t batches, size_t outer, size_t rows,
                 size_t row_bytes, size_t count) {
    const uint8_t *block = table;
    uint8_t *to = y;
    for (; batches--; indices += count) {
        for (size_t n = 0; n < outer; n++, block += rows * row_bytes) {
            for (size_t i = 0; i < count; i++, to += row_bytes) {
                size_t row = indices[i] < 0 ? 0 : (size_t)indices[i] < rows ? (size_t)indices[i] : rows - 1;
                const uint8_t *from = block + row * row_bytes;
                for (size_t j = 0; j < row_bytes; j++) to[j] = from[j];
            }
        }
    }
}
