/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "embedding.h"

#include "packed.h"

void edge_embedding_s8(uint32_t token, float *x, const int8_t *weights, const float *scales, size_t dim) {
    const uint8_t *group = (const uint8_t *)weights + token / 4 * (edge_blocks(dim) * EDGE_BLOCK_BYTES) + token % 4 * 4;
    float scale = scales[token];
    for (size_t i = 0; i < dim; i++) {
        uint8_t byte = group[i / 4 * EDGE_BLOCK_BYTES + i % 4];
        x[i] = (float)(int8_t)(i % 2 == 0 ? byte ^ 0x80 : byte) * scale; /* even columns are stored 128 too large */
    }
}

void edge_embedding_f32(uint32_t token, float *x, const float *weights, size_t dim) {
    const float *row = weights + token * dim;
    for (size_t i = 0; i < dim; i++) x[i] = row[i];
}
