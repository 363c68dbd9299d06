/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Fully connected with int8 weights, but for the two functions in which cores differ: fully_connected.c and
 * fully_connected_dsp.c each give theirs, and the compiler inlines them. */
#ifndef EDGE_FULLY_CONNECTED_S8_H
#define EDGE_FULLY_CONNECTED_S8_H

#include "fully_connected.h"
#include "packed.h"

typedef struct {
    edge_row (*quantize)(const float *x, size_t count, uint32_t *words);
    void (*scaled_dots)(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, edge_row row,
                        const float *scales, float *y);
} edge_core;

static inline void edge_connect_row_s8(edge_core core, const float *x, float *y, const int8_t *weights,
                                       const float *scales, const float *bias, size_t rows, size_t columns,
                                       void *workspace) {
    size_t blocks = edge_blocks(columns), whole = rows / 4, rest = rows % 4;
    const uint8_t *packed = (const uint8_t *)weights;
    edge_row row = core.quantize(x, columns, workspace);
    core.scaled_dots(packed, whole, workspace, blocks, row, scales, y);
    if (rest) { /* the last group's rows are there, their scales and places in y are not */
        float last_scales[4] = {0}, last[4];
        for (size_t r = 0; r < rest; r++) last_scales[r] = scales[4 * whole + r];
        core.scaled_dots(packed + whole * blocks * EDGE_BLOCK_BYTES, 1, workspace, blocks, row, last_scales, last);
        for (size_t r = 0; r < rest; r++) y[4 * whole + r] = last[r];
    }
    if (bias) {
        EDGE_ROLLED
        for (size_t n = 0; n < rows; n++) y[n] += bias[n];
    }
}

static inline void edge_connect_s8(edge_core core, const float *x, float *y, const int8_t *weights, const float *scales,
                                   const float *bias, size_t rows, size_t columns, size_t count, void *workspace) {
    for (; count--; x += columns, y += rows)
        edge_connect_row_s8(core, x, y, weights, scales, bias, rows, columns, workspace);
}

#endif
