/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The layouts that fully_connected_bfp_v6m.c reads; firmware_tools/ops/fully_connected_bfp.py draws them. */
#include "embedding_bfp.h"

void edge_embedding_bfp_v6m(const uint32_t *tokens, int32_t *x, const uint8_t *weights, const uint16_t *scales,
                            int32_t exponent, size_t dim, size_t count) {
    for (; count > 0; count--, tokens++) {
        const uint8_t *word = weights + *tokens / 4 * ((dim + 3) / 4 * 16) + *tokens % 4 / 2 * 4 + *tokens % 2;
        int32_t scale = scales[*tokens];
        *x++ = exponent;
        for (size_t i = 0; i < dim; i += 2, word += 8) { /* the even column lies in the upper half */
            *x++ = (word[2] - 128) * scale;
            if (i + 1 < dim) *x++ = (word[0] - 128) * scale;
        }
    }
}

void edge_embedding_bfp_wide_v6m(const uint32_t *tokens, int32_t *x, const uint16_t *weights, const uint16_t *scales,
                                 int32_t exponent, size_t dim, size_t count) {
    for (; count > 0; count--, tokens++) {
        const uint16_t *word = weights + *tokens / 4 * ((dim + 3) / 4 * 16) + *tokens % 4 * 2;
        int32_t scale = scales[*tokens];
        *x++ = exponent;
        for (size_t i = 0; i < dim; i += 2, word += 8) {
            *x++ = (word[1] - 128) * scale;
            if (i + 1 < dim) *x++ = (word[0] - 128) * scale;
        }
    }
}
