/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ATTENTION_H
#define EDGE_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t heads, kv_heads, head_dim, context;
    float scale; /* of scores: log2(e) / sqrt(head_dim) with an int8 cache, 1 / sqrt(head_dim) with a float32 cache */
    uint32_t weight_shift; /* int8 cache: bits by which weights are smaller, for long contexts */
} edge_attention_shape;

/* Floats of one token's queries, keys and values. */
static inline size_t edge_qkv_size(const edge_attention_shape *shape) {
    return (shape->heads + 2 * shape->kv_heads) * shape->head_dim;
}

/* For each of count tokens, the first at position: writes the keys and values of qkv[heads + 2 kv_heads][head_dim] to the
 * token's row of the cache and attends all rows up to that: y[heads][head_dim]. Cache and workspace as firmware_tools/ops/attention.py sizes them, 4-byte aligned. */
void edge_attention_s8(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, size_t count,
                       void *cache, void *workspace);
/* head_dim is 8 */
void edge_attention_s8_dsp_8(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                             size_t count, void *cache, void *workspace);
void edge_attention_s8_dsp(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           size_t count, void *cache, void *workspace);
void edge_attention_s8_mve(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           size_t count, void *cache, void *workspace);
/* for heads of these sizes */
void edge_attention_s8_mve_8(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                             size_t count, void *cache, void *workspace);
void edge_attention_s8_mve_16(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                              size_t count, void *cache, void *workspace);
void edge_attention_s8_mve_32(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                              size_t count, void *cache, void *workspace);
void edge_attention_s8_mve_64(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                              size_t count, void *cache, void *workspace);
void edge_attention_f32(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, size_t count,
                        void *cache, void *workspace);

#endif
