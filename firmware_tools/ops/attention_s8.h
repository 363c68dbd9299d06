/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Attention with an int8 cache, but for the functions in which cores differ: attention.c and attention_dsp.c
 * each give theirs, and the compiler inlines them. firmware_tools/ops/attention.py gives the arithmetic. */
#ifndef EDGE_ATTENTION_S8_H
#define EDGE_ATTENTION_S8_H

#include "attention.h"
#include "exp2_table.h"
#include "packed.h"

typedef struct {
    edge_row (*quantize)(const float *x, size_t count, uint32_t *words);
    void (*scores)(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                   const uint16_t *scales, float factor, int32_t *scores);
    uint32_t (*top)(const uint16_t *scales, size_t count);
    void (*find_factors)(const uint16_t *value_scales, size_t count, float inverse, int32_t *value_factors);
    int32_t (*largest)(const int32_t *scores, size_t count);
    uint32_t (*weigh)(const int32_t *scores, size_t count, int32_t largest, const int32_t *value_factors,
                      edge_weight *weights);
    void (*weighted_sums)(const uint8_t *rows, size_t groups, size_t group_bytes, const edge_weight *weights,
                          size_t blocks, float factor, float *y);
} edge_core;

/* One kv head's part of the cache. */
typedef struct {
    uint8_t *keys, *values;
    uint16_t *key_scales, *value_scales;
} edge_kv_head;

static inline edge_kv_head edge_find_kv_head(const edge_attention_shape *shape, void *cache, size_t g) {
    size_t slots = edge_blocks(shape->context) * 4, bytes = slots * edge_blocks(shape->head_dim) * 4;
    uint8_t *keys = cache, *values = keys + shape->kv_heads * bytes;
    uint16_t *key_scales = (void *)(values + shape->kv_heads * bytes);
    uint16_t *value_scales = key_scales + shape->kv_heads * slots;
    return (edge_kv_head){keys + g * bytes, values + g * bytes, key_scales + g * slots, value_scales + g * slots};
}

/* Writes one row of keys and values, and their scales. */
EDGE_PART void edge_store(const edge_attention_shape *shape, edge_kv_head kv, uint32_t position, const float *key,
                          const float *value, uint32_t *words) {
    size_t blocks = edge_blocks(shape->head_dim), group_bytes = edge_blocks(shape->context) * EDGE_BLOCK_BYTES;
    uint8_t *at = kv.keys + position / 4 * blocks * EDGE_BLOCK_BYTES + position % 4 * 4;
    kv.key_scales[position] = edge_half_bits(edge_quantize(key, shape->head_dim, words).scale);
    EDGE_ROLLED
    for (size_t b = 0; b < blocks; b++, at += EDGE_BLOCK_BYTES) {
        uint32_t word = words[b] ^ 0x00800080u; /* even columns are stored 128 too large */
        __builtin_memcpy(at, &word, sizeof word);
    }
    uint32_t column = (position & 1) << 1 | (position >> 1 & 1); /* 1 and 2 change places, for edge_weighted_sums */
    at = kv.values + position / 4 * EDGE_BLOCK_BYTES + column;
    kv.value_scales[position] = edge_half_bits(edge_quantize(value, shape->head_dim, words).scale);
    EDGE_ROLLED
    for (size_t b = 0; b < blocks; b++, at += group_bytes)
        for (size_t d = 0; d < 4; d++) at[4 * d] = (uint8_t)(words[b] >> 8 * d);
}

/* The bits of the largest of count scales; positive halves compare as integers do. */
EDGE_PART uint32_t edge_top(const uint16_t *scales, size_t count) {
    uint32_t top = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++)
        if (scales[t] > top) top = scales[t];
    return top;
}

/* value_factors[count]: scales in units that make the largest the limit, in 2^-16. */
EDGE_PART void edge_find_factors(const uint16_t *value_scales, size_t count, float inverse, int32_t *value_factors) {
    for (size_t t = 0; t < count; t++) value_factors[t] = (int32_t)(edge_half_to_float(value_scales[t]) * inverse);
}

EDGE_PART int32_t edge_largest_score(const int32_t *scores, size_t count) {
    int32_t largest = INT32_MIN;
    for (size_t t = 0; t < count; t++)
        if (scores[t] > largest) largest = scores[t];
    return largest;
}

/* Integer weights of the values, zeros to the end of the block; returns the sum of e in 2^-16. */
EDGE_PART uint32_t edge_weigh(const int32_t *scores, size_t count, int32_t largest, const int32_t *value_factors,
                              edge_weight *weights) {
    uint32_t sum = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++) {
        uint32_t step = ((uint32_t)largest - (uint32_t)scores[t]) >> 10;
        uint32_t e = edge_exp2_table[step < 1023 ? step : 1023];
        sum += e;
        weights[t] = (int16_t)(((int64_t)e * value_factors[t] + 0x80000000) >> 32);
    }
    EDGE_ROLLED
    for (size_t t = count; t % 4; t++) weights[t] = 0;
    return sum;
}

/* What the query heads of a group share beside their kv head: the values' factors, and what the largest stands for. */
typedef struct {
    size_t count;
    float top;
    const int32_t *value_factors;
} edge_shared;

static inline void edge_attend_head(edge_core core, const float *query, float *y, const edge_attention_shape *shape,
                                    edge_kv_head kv, edge_shared shared, int32_t *scores, uint32_t *words) {
    size_t head_dim = shape->head_dim, groups = edge_blocks(shared.count);
    edge_weight *weights = (edge_weight *)scores;
    edge_row row = core.quantize(query, head_dim, words);
    core.scores(kv.keys, groups, words, edge_blocks(head_dim), row.even_sum, kv.key_scales, row.scale * shape->scale,
                scores);
    int32_t largest = core.largest(scores, shared.count);
    uint32_t sum = core.weigh(scores, shared.count, largest, shared.value_factors, weights);
    float factor = shared.top * 65536.0f / ((float)sum * shape->limit), last[4];
    size_t group_bytes = edge_blocks(shape->context) * EDGE_BLOCK_BYTES, whole = head_dim / 4;
    core.weighted_sums(kv.values, whole, group_bytes, weights, groups, factor, y);
    if (head_dim % 4) {
        core.weighted_sums(kv.values + whole * group_bytes, 1, group_bytes, weights, groups, factor, last);
        for (size_t r = 0; r < head_dim % 4; r++) y[4 * whole + r] = last[r];
    }
}

static inline void edge_attend_token_s8(edge_core core, uint32_t position, const float *qkv, float *y,
                                        const edge_attention_shape *shape, void *cache, void *workspace) {
    size_t count = position + 1, head_dim = shape->head_dim, slots = edge_blocks(shape->context) * 4;
    size_t group = shape->heads / shape->kv_heads;
    int32_t *scores = workspace, *value_factors = scores + slots;
    uint32_t *words = (void *)(value_factors + slots);
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, key += head_dim, value += head_dim) {
        edge_kv_head kv = edge_find_kv_head(shape, cache, g);
        edge_store(shape, kv, position, key, value, words);
        float top = edge_half_to_float((uint16_t)core.top(kv.value_scales, count));
        float inverse = top > 0.0f ? shape->limit * 65536.0f / top : 0.0f;
        core.find_factors(kv.value_scales, count, inverse, value_factors);
        edge_shared shared = {count, top, value_factors};
        for (size_t h = 0; h < group; h++, qkv += head_dim, y += head_dim)
            edge_attend_head(core, qkv, y, shape, kv, shared, scores, words);
    }
}

static inline void edge_attend_s8(edge_core core, uint32_t position, const float *qkv, float *y,
                                  const edge_attention_shape *shape, size_t count, void *cache, void *workspace) {
    for (; count--; position++, qkv += edge_qkv_size(shape), y += shape->heads * shape->head_dim)
        edge_attend_token_s8(core, position, qkv, y, shape, cache, workspace);
}

#endif
