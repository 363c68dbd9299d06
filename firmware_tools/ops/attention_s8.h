/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Attention with an int8 cache, but for the functions in which cores differ: attention.c and others each give theirs, and
 * the compiler inlines them. firmware_tools/ops/attention.py gives the arithmetic. */
#ifndef EDGE_ATTENTION_S8_H
#define EDGE_ATTENTION_S8_H

#include "attention.h"
#include "exp2_table.h"
#include "packed.h"

#define EDGE_LAST_STEP 1023 /* of the table */

typedef struct {
    edge_row (*quantize)(const float *x, size_t count, uint32_t *words);
    void (*scores)(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                   const uint8_t *scales, float factor, int16_t *scores);
    uint32_t (*top)(const uint8_t *scales, size_t count);
    void (*find_factors)(const uint8_t *scales, size_t count, uint32_t top, uint32_t shift, int32_t *factors);
    int32_t (*largest)(const int16_t *scores, size_t count);
    uint32_t (*weigh)(int16_t *scores, size_t count, int32_t largest, const int32_t *factors);
    void (*weighted_sums)(const uint8_t *rows, size_t groups, size_t group_bytes, const int16_t *weights, size_t blocks,
                          float factor, float *y);
} edge_core;

/* One kv head's part of the cache. */
typedef struct {
    uint8_t *keys, *values, *key_scales, *value_scales;
    uint16_t *base;
} edge_kv_head;

static inline edge_kv_head edge_find_kv_head(const edge_attention_shape *shape, void *cache, size_t g) {
    size_t slots = edge_blocks(shape->context) * 4, columns = edge_blocks(shape->head_dim) * 4, bytes = slots * columns;
    uint8_t *keys = cache, *values = keys + shape->kv_heads * bytes, *key_scales = values + shape->kv_heads * bytes;
    uint8_t *value_scales = key_scales + shape->kv_heads * slots, *bases = value_scales + shape->kv_heads * slots;
    return (edge_kv_head){keys + g * bytes, values + g * bytes, key_scales + g * slots, value_scales + g * slots,
                          (uint16_t *)(void *)bases + g * columns};
}

/* Writes one row of keys and values, and their scales. */
EDGE_PART void edge_store(const edge_attention_shape *shape, edge_kv_head kv, uint32_t position, const float *key,
                          const float *value, float *relative, uint32_t *words) {
    size_t head_dim = shape->head_dim, blocks = edge_blocks(head_dim);
    EDGE_ROLLED
    for (size_t d = 0; d < head_dim; d++) {
        if (position == 0) kv.base[d] = edge_half_bits(key[d]);
        relative[d] = key[d] - edge_half_to_float(kv.base[d]);
    }
    edge_quantize_by(relative, head_dim, edge_inverse_byte_of(edge_largest(relative, head_dim), kv.key_scales + position),
                     words);
    uint8_t *at = kv.keys + position / 4 * blocks * EDGE_BLOCK_BYTES + position % 4 * 4;
    EDGE_ROLLED
    for (size_t b = 0; b < blocks; b++, at += EDGE_BLOCK_BYTES) {
        uint32_t word = words[b] ^ 0x00800080u; /* even columns are stored 128 too large */
        __builtin_memcpy(at, &word, sizeof word);
    }
    edge_quantize_by(value, head_dim, edge_inverse_byte_of(edge_largest(value, head_dim), kv.value_scales + position), words);
    uint32_t column = (position & 1) << 1 | (position >> 1 & 1); /* 1 and 2 change places, for edge_weighted_sums */
    at = kv.values + position / 4 * EDGE_BLOCK_BYTES + column;
    EDGE_ROLLED
    for (size_t b = 0; b < blocks; b++, at += edge_blocks(shape->context) * EDGE_BLOCK_BYTES)
        for (size_t d = 0; d < 4; d++) at[4 * d] = (uint8_t)(words[b] >> 8 * d);
}

/* scores[4 * groups]: edge_dots times scales and the factor, in 2^-7. */
EDGE_PART void edge_scores(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                           const uint8_t *scales, float factor, int16_t *scores) {
    for (; groups--; rows += blocks * EDGE_BLOCK_BYTES) {
        int32_t dots[4];
        edge_dots(rows, 1, words, blocks, even_sum, dots);
        EDGE_ROLLED
        for (size_t r = 0; r < 4; r++) {
            float score = (float)dots[r] * edge_byte_scale(*scales++) * factor * 128.0f;
            *scores++ = score >= 32767.0f ? 32767 : score > -32768.0f ? (int16_t)score : -32768;
        }
    }
}

/* The largest exponent among count scales. */
EDGE_PART uint32_t edge_top(const uint8_t *scales, size_t count) {
    uint32_t top = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++)
        if (scales[t] > top) top = scales[t];
    return top >> 3;
}

/* factors[count]: scales as integers, with up to 31 bits where the exponent is the largest. */
EDGE_PART void edge_find_factors(const uint8_t *scales, size_t count, uint32_t top, uint32_t shift, int32_t *factors) {
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++)
        factors[t] = (int32_t)((8 + (scales[t] & 7u)) << 27 >> (top - (scales[t] >> 3)) >> shift);
}

EDGE_PART int32_t edge_largest_score(const int16_t *scores, size_t count) {
    int32_t largest = INT16_MIN;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++)
        if (scores[t] > largest) largest = scores[t];
    return largest;
}

/* Makes integer weights of the scores, zeros to the end of the block; returns the sum of e in 2^-16. */
EDGE_PART uint32_t edge_weigh(int16_t *scores, size_t count, int32_t largest, const int32_t *factors) {
    uint32_t sum = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++) {
        int32_t step = (largest - scores[t]) >> 1;
        uint32_t e = edge_exp2_table[step < EDGE_LAST_STEP ? step : EDGE_LAST_STEP];
        sum += e;
        scores[t] = (int16_t)(((int64_t)e * factors[t] + 0x80000000) >> 32);
    }
    EDGE_ROLLED
    for (size_t t = count; t % 4; t++) scores[t] = 0;
    return sum;
}

/* What the query heads of a group share beside their kv head: how many positions, their factors, and what these mean. */
typedef struct {
    size_t count;
    float unit;
    const int32_t *factors;
} edge_shared;

static inline void edge_attend_head(edge_core core, const float *query, float *y, const edge_attention_shape *shape,
                                    edge_kv_head kv, edge_shared shared, int16_t *scores, uint32_t *words) {
    size_t head_dim = shape->head_dim, groups = edge_blocks(shared.count);
    edge_row row = core.quantize(query, head_dim, words);
    core.scores(kv.keys, groups, words, edge_blocks(head_dim), row.even_sum, kv.key_scales, row.scale * shape->scale,
                scores);
    uint32_t sum = core.weigh(scores, shared.count, core.largest(scores, shared.count), shared.factors);
    float factor = shared.unit / (float)sum, last[4];
    size_t group_bytes = edge_blocks(shape->context) * EDGE_BLOCK_BYTES, whole = head_dim / 4;
    core.weighted_sums(kv.values, whole, group_bytes, scores, groups, factor, y);
    if (head_dim % 4) {
        core.weighted_sums(kv.values + whole * group_bytes, 1, group_bytes, scores, groups, factor, last);
        for (size_t r = 0; r < head_dim % 4; r++) y[4 * whole + r] = last[r];
    }
}

static inline void edge_attend_token_s8(edge_core core, uint32_t position, const float *qkv, float *y,
                                        const edge_attention_shape *shape, void *cache, void *workspace) {
    size_t count = position + 1, head_dim = shape->head_dim, slots = edge_blocks(shape->context) * 4;
    size_t group = shape->heads / shape->kv_heads, columns = edge_blocks(head_dim) * 4;
    int32_t *factors = workspace;
    float *relative = (void *)(factors + slots);
    uint32_t *words = (void *)(relative + columns);
    int16_t *scores = (int16_t *)(void *)words + columns;
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, key += head_dim, value += head_dim) {
        edge_kv_head kv = edge_find_kv_head(shape, cache, g);
        edge_store(shape, kv, position, key, value, relative, words);
        uint32_t top = core.top(kv.value_scales, count);
        core.find_factors(kv.value_scales, count, top, shape->weight_shift, factors);
        edge_shared shared = {count, edge_bits_float((top + 127 - 19 + shape->weight_shift) << 23), factors};
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
