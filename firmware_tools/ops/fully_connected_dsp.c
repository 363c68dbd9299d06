/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected.h"

#include "packed_dsp.h"

void edge_fully_connected_s8_dsp(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, void *workspace) {
    size_t blocks = edge_blocks(columns), whole = rows / 4;
    const uint8_t *packed = (const uint8_t *)weights;
    edge_row row = edge_quantize_dsp(x, columns, workspace);
    edge_int *dots = (edge_int *)y, last[4];
    edge_dots_dsp(packed, whole, workspace, blocks, row.even_sum, dots);
    if (rows % 4) {
        edge_dots_dsp(packed + whole * blocks * EDGE_BLOCK_BYTES, 1, workspace, blocks, row.even_sum, last);
        for (size_t r = 0; r < rows % 4; r++) dots[4 * whole + r] = last[r];
    }
    for (size_t n = 0; n < rows; n++) y[n] = (float)dots[n] * (row.scale * scales[n]);
    if (bias) {
        EDGE_ROLLED
        for (size_t n = 0; n < rows; n++) y[n] += bias[n];
    }
}
