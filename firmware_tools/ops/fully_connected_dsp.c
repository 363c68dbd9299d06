/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_s8.h"
#include "packed_dsp.h"

void edge_fully_connected_s8_dsp(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, void *workspace) {
    edge_core core = {edge_quantize_dsp, edge_scaled_dots_dsp};
    edge_connect_s8(core, x, y, weights, scales, bias, rows, columns, count, workspace);
}
