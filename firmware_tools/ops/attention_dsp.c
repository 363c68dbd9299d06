/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "attention_s8.h"
#include "packed_dsp.h"

void edge_attention_s8_dsp(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           void *cache, void *workspace) {
    edge_core core = {edge_quantize_dsp, edge_dots_dsp, edge_wide_dots_dsp};
    edge_attend_s8(core, position, qkv, y, shape, cache, workspace);
}
