/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int4.h"

#include "packed4.h"

/* sums[4] of one group of rows, blocks weighted by their scales. */
static void blockwise(const uint16_t *group, const uint16_t *block_scales, const uint32_t *words, size_t blocks,
                      size_t block, float *sums) {
    int32_t dots[4];
    for (size_t b = 0; b < blocks; b += block / 4, group += block, words += block / 4) {
        edge_dots4(group, words, block / 4, dots);
        for (size_t r = 0; r < 4; r++) sums[r] += (float)dots[r] * edge_half_to_float(*block_scales++);
    }
}

static void connect(const float *x, float *y, const uint16_t *weights, const float *scales,
                    const uint16_t *block_scales, size_t rows, size_t columns, size_t block, uint32_t *words) {
    size_t blocks = edge_blocks(columns);
    edge_row row = edge_quantize(x, columns, words);
    for (size_t n = 0; n < rows; n += 4, weights += 4 * blocks) {
        size_t there = rows - n < 4 ? rows - n : 4;
        int32_t dots[4];
        float sums[4] = {0};
        if (block) {
            blockwise(weights, block_scales + n / 4 * (columns / block) * 4, words, blocks, block, sums);
            for (size_t r = 0; r < there; r++) y[n + r] = sums[r] * row.scale;
        } else {
            edge_dots4(weights, words, blocks, dots);
            for (size_t r = 0; r < there; r++) y[n + r] = (float)dots[r] * (row.scale * scales[n + r]);
        }
    }
}

void edge_fully_connected_int4(const float *x, float *y, const uint16_t *weights, const float *scales,
                               const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                               size_t block, size_t count, void *workspace) {
    for (; count--; x += columns, y += rows) {
        connect(x, y, weights, scales, block_scales, rows, columns, block, workspace);
        if (bias) {
            EDGE_ROLLED
            for (size_t n = 0; n < rows; n++) y[n] += bias[n];
        }
    }
}
