/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ATTENTION_BFP_H
#define EDGE_ATTENTION_BFP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t heads, kv_heads, group, head_dim, context; /* group: heads / kv_heads */
    int32_t query_factor, query_exponent; /* log2(e) / sqrt(head_dim) = query_factor * 2^query_exponent */
    int32_t score_shift;                  /* bits that a half's dot product loses */
    int32_t weight_shift;                 /* bits that e times a value's factor loses */
} edge_attention_bfp_shape;

/* For count rows qkv of 1 + (heads + 2 kv_heads) * head_dim integers (firmware_tools/bfp.py), in order: writes keys and
 * values to the next row of the cache, the first to row position, and attends rows 0 to that one: y of 1 + heads * head_dim.
 * Cache and workspace as firmware_tools/ops/attention_bfp.py sizes them. */
void edge_attention_bfp(uint32_t position, const int32_t *qkv, int32_t *y, const edge_attention_bfp_shape *shape,
                        void *cache, void *workspace, size_t count);
void edge_attention_bfp_v6m(uint32_t position, const int32_t *qkv, int32_t *y, const edge_attention_bfp_shape *shape,
                            void *cache, void *workspace, size_t count);
void edge_attention_bfp_v6m_pair(uint32_t position, const int32_t *qkv, int32_t *y,
                                 const edge_attention_bfp_shape *shape, void *cache, void *workspace,
                                 size_t count); /* two cores share the heads: pair.h */

#endif
