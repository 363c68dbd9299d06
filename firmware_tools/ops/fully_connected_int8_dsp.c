/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int8.h"
#include "products_dsp.h"

#define EDGE_CHUNK_BLOCKS 120 /* whose sums fit 32 bits */

typedef enum { EDGE_WORDS, EDGE_WORDS_EACH, EDGE_BYTES, EDGE_BYTES_EACH } edge_function;

static inline void edge_multiply_1(edge_product_1 *product, edge_function function) {
    if (function == EDGE_WORDS) edge_product_of_1(product);
    else if (function == EDGE_WORDS_EACH) edge_product_of_1_each(product);
    else if (function == EDGE_BYTES) edge_product_of_bytes(product);
    else edge_product_of_bytes_each(product);
}

/* The outputs of one window for all rows: in fours, and what is left by way of a place of its own. */
static inline void edge_connect(edge_product_1 product, edge_function function, int32_t rows) {
    int8_t last[4], *y = (int8_t *)product.y + (rows & ~3);
    size_t entry = product.entry;
    if (rows >= 4) {
        product.end = y;
        edge_multiply_1(&product, function);
    }
    if (rows % 4 == 0) return;
    product.y = last, product.end = last + 4;
    product.entry = entry; /* the function made an address of it */
    edge_multiply_1(&product, function);
    for (int32_t i = 0; i < rows % 4; i++) y[i] = last[i];
}

static inline edge_product_1 edge_product(const edge_fully_connected_shape *shape, const int8_t *weights,
                                          const int32_t *bias, const int32_t *scaling, size_t block_bytes) {
    edge_product_1 product = {.start = bias, .weights = weights};
    product.blocks = (size_t)(shape->columns + 3) / 4;
    product.entry = edge_entry(product.blocks, block_bytes);
    if (shape->scalings == 1) __builtin_memcpy(product.scaling.alike, scaling, sizeof product.scaling.alike);
    else product.scaling.each = scaling;
    return product;
}

void edge_fully_connected_int8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                   const int32_t *scaling, const edge_fully_connected_shape *shape, void *workspace) {
    edge_product_1 product = edge_product(shape, weights, bias, scaling, EDGE_BLOCK_4_BY_1_BYTES);
    size_t whole = (size_t)shape->columns / 4, rest = (size_t)shape->columns % 4;
    uint32_t *words = workspace;
    product.x = words;
    for (int32_t b = 0; b < shape->batches; b++, x += shape->columns) {
        edge_widen(x, whole, words, 1);
        if (rest) edge_widen_rest(x + 4 * whole, rest, words + 2 * whole, 1);
        product.y = y + b * shape->rows;
        edge_connect(product, shape->scalings == 1 ? EDGE_WORDS : EDGE_WORDS_EACH, shape->rows);
    }
    edge_clamp_bytes(y, shape->batches * shape->rows, shape->least, shape->most);
}

void edge_fully_connected_int8_few_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                       const int32_t *scaling, const edge_fully_connected_shape *shape) {
    edge_product_1 product = edge_product(shape, weights, bias, scaling, EDGE_BLOCK_4_BY_BYTES_BYTES);
    product.constant = EDGE_WORD_SIGNS;
    for (int32_t b = 0; b < shape->batches; b++, x += shape->columns) {
        product.x = x;
        product.y = y + b * shape->rows;
        edge_connect(product, shape->scalings == 1 ? EDGE_BYTES : EDGE_BYTES_EACH, shape->rows);
    }
    edge_clamp_bytes(y, shape->batches * shape->rows, shape->least, shape->most);
}

void edge_fully_connected_int8_fours_dsp(edge_product_1 *product) { edge_product_of_bytes(product); }

void edge_fully_connected_int8_wide_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                        const int32_t *scaling, const edge_fully_connected_shape *shape) {
    size_t blocks = (size_t)(shape->columns + 3) / 4;
    int32_t groups = (shape->rows + 3) / 4, step = shape->scalings > 1 ? 4 : 0;
    const int32_t *start = bias + shape->rows;
    for (int32_t b = 0; b < shape->batches; b++, x += shape->columns) {
        const int8_t *group = weights;
        for (int32_t n = 0; n < shape->rows; n += 4) {
            int32_t totals[4] = {0}, sums[4];
            edge_product_1 product = {.x = x, .constant = EDGE_WORD_SIGNS, .start = start + n, .weights = group};
            for (size_t first = 0; first < blocks; first += EDGE_CHUNK_BLOCKS) {
                product.x = x + 4 * first;
                product.blocks = blocks - first < EDGE_CHUNK_BLOCKS ? blocks - first : EDGE_CHUNK_BLOCKS;
                product.entry = edge_entry(product.blocks, EDGE_BLOCK_4_BY_BYTES_BYTES);
                product.y = sums, product.end = sums + 4;
                edge_sums_of_bytes(&product);
                product.start += 4 * (groups - 1);
                for (int32_t i = 0; i < 4; i++) totals[i] += sums[i] >> 8;
            }
            group = product.weights;
            for (int32_t i = 0; i < 4 && n + i < shape->rows; i++)
                *y++ = edge_connected(totals[i] + bias[n + i], scaling + (n + i) * step, shape);
        }
    }
}
