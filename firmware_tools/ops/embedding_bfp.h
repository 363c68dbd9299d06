/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_EMBEDDING_BFP_H
#define EDGE_EMBEDDING_BFP_H

#include <stddef.h>
#include <stdint.h>

/* Rows of 1 + dim integers (firmware_tools/bfp.py) for count tokens: weights * scales[token] with this exponent. The
 * weights lie as those of edge_fully_connected_bfp and its kin. */
void edge_embedding_bfp(const uint32_t *tokens, int32_t *x, const int8_t *weights, const uint16_t *scales,
                        int32_t exponent, size_t dim, size_t count);
void edge_embedding_bfp_v6m(const uint32_t *tokens, int32_t *x, const uint8_t *weights, const uint16_t *scales,
                            int32_t exponent, size_t dim, size_t count);
void edge_embedding_bfp_wide_v6m(const uint32_t *tokens, int32_t *x, const uint16_t *weights, const uint16_t *scales,
                                 int32_t exponent, size_t dim, size_t count);

#endif
