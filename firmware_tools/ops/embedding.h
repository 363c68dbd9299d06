/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_EMBEDDING_H
#define EDGE_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

/* For each of count tokens x[dim] = its row of weights, packed int8 (firmware_tools/packed.py), times its scale. */
void edge_embedding_s8(const uint32_t *tokens, float *x, const int8_t *weights, const float *scales, size_t dim,
                       size_t count);
void edge_embedding_s8_mve(const uint32_t *tokens, float *x, const int8_t *weights, const float *scales, size_t dim,
                           size_t count);

/* For each of count tokens x[dim] = its row of weights[vocab][dim]. */
void edge_embedding_f32(const uint32_t *tokens, float *x, const float *weights, size_t dim, size_t count);
void edge_embedding_f32_mve(const uint32_t *tokens, float *x, const float *weights, size_t dim, size_t count);

#endif
