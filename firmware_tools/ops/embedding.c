/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "embedding.h"

#include "packed.h"

void edge_embedding_s8(const uint32_t *tokens, float *x, const int8_t *weights, const float *scales, size_t dim,
                       size_t count) {
    size_t group_bytes = edge_blocks(dim) * EDGE_BLOCK_BYTES;
    for (; count--; tokens++, x += dim) {
        const uint8_t *row = (const uint8_t *)weights + *tokens / 4 * group_bytes + *tokens % 4 * 4;
        float scale = scales[*tokens];
        for (size_t i = 0; i < dim; i++) {
            uint8_t byte = row[i / 4 * EDGE_BLOCK_BYTES + i % 4];
            x[i] = (float)(int8_t)(i % 2 == 0 ? byte ^ 0x80 : byte) * scale; /* even columns are stored 128 too large */
        }
    }
}

void edge_embedding_f32(const uint32_t *tokens, float *x, const float *weights, size_t dim, size_t count) {
    for (; count--; tokens++, x += dim) {
        const float *row = weights + *tokens * dim;
        for (size_t i = 0; i < dim; i++) x[i] = row[i];
    }
}
