/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "embedding_bfp.h"

void edge_embedding_bfp(const uint32_t *tokens, int32_t *x, const int8_t *weights, const uint16_t *scales,
                        int32_t exponent, size_t dim, size_t count) {
    for (; count > 0; count--, tokens++) {
        const int8_t *row = weights + *tokens * dim;
        int32_t scale = scales[*tokens];
        *x++ = exponent;
        for (size_t i = 0; i < dim; i++) *x++ = row[i] * scale;
    }
}
