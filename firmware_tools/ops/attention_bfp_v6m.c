/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "attention_bfp_core_v6m.h"

void edge_attention_bfp_v6m(uint32_t position, const int32_t *qkv, int32_t *y, const edge_attention_bfp_shape *shape,
                            void *cache, void *workspace, size_t count) {
    edge_attend(edge_core_v6m, edge_alone, position, qkv, y, shape, cache, workspace, count);
}
