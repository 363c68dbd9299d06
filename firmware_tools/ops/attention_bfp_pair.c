/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Two cores of Armv6-M share the heads: those of the lower kv heads, those of the upper. */
#include "attention_bfp_core_v6m.h"
#include "pair.h"

typedef struct {
    const edge_row *row;
    void *workspace;
} edge_halves;

EDGE_BFP_PART void edge_heads_half(void *argument, unsigned half) {
    const edge_halves *halves = argument;
    size_t all = halves->row->shape->kv_heads, lower = (all + 1) / 2;
    int32_t *scratch = edge_scratch(halves->workspace, halves->row->shape, half);
    edge_attend_heads(edge_core_v6m, halves->row, half ? lower : 0, half ? all : lower, scratch);
}

static inline void edge_together(edge_core core, const edge_row *row, void *workspace) {
    (void)core;
    edge_pair(edge_heads_half, &(edge_halves){row, workspace});
}

void edge_attention_bfp_v6m_pair(uint32_t position, const int32_t *qkv, int32_t *y,
                                 const edge_attention_bfp_shape *shape, void *cache, void *workspace, size_t count) {
    edge_attend(edge_core_v6m, edge_together, position, qkv, y, shape, cache, workspace, count);
}
