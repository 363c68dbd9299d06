/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Attention with an int8 cache, but for the three functions in which cores differ: attention.c and attention_dsp.c
 * each give theirs, and the compiler inlines them. firmware_tools/ops/attention.py gives the arithmetic. */
#ifndef EDGE_ATTENTION_S8_H
#define EDGE_ATTENTION_S8_H

#include "attention.h"
#include "packed.h"

typedef struct {
    edge_row (*quantize)(const float *x, size_t count, uint32_t *words);
    void (*dots)(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                 edge_int *dots);
    void (*wide_dots)(const uint8_t *rows, const int16_t *columns, size_t blocks, int32_t *dots);
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
    uint32_t column = (position & 1) << 1 | (position >> 1 & 1); /* 1 and 2 change places, for edge_wide_dots */
    at = kv.values + position / 4 * EDGE_BLOCK_BYTES + column;
    kv.value_scales[position] = edge_half_bits(edge_quantize(value, shape->head_dim, words).scale);
    EDGE_ROLLED
    for (size_t b = 0; b < blocks; b++, at += group_bytes)
        for (size_t d = 0; d < 4; d++) at[4 * d] = (uint8_t)(words[b] >> 8 * d);
}

/* The largest of count scales; positive halves compare as integers do. */
EDGE_PART float edge_top(const uint16_t *scales, size_t count) {
    uint32_t top = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++)
        if (scales[t] > top) top = scales[t];
    return edge_half_to_float((uint16_t)top);
}

/* Turns the dots of query and keys into scores, in place; returns the largest. */
EDGE_PART float edge_score(float *scores, const uint16_t *key_scales, size_t count) {
    const edge_int *dots = (const edge_int *)scores;
    float largest = -3.40282347e38f;
    for (size_t t = 0; t < count; t++) {
        float score = (float)dots[t] * edge_half_to_float(key_scales[t]);
        if (score > largest) largest = score;
        scores[t] = score;
    }
    return largest;
}

/* Integer weights of the values, zeros to the end of the block; returns the sum of e. */
EDGE_PART float edge_weigh(const float *scores, size_t count, float largest, float scale, const uint16_t *value_scales,
                           float inverse, int16_t *weights) {
    float sum = 0.0f;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++) {
        float power = (scores[t] - largest) * scale;
        int32_t weight = 0;
        /* rint(power) > -30, by comparing floats as integers: the exponential needs the sum anyway */
        if ((int32_t)edge_float_bits(power + EDGE_ROUND_MAGIC) > 0x4B400000 - 30) {
            float e = edge_exp2(power);
            sum += e;
            weight = edge_round(e * (edge_half_to_float(value_scales[t]) * inverse));
        }
        weights[t] = (int16_t)weight;
    }
    EDGE_ROLLED
    for (size_t t = count; t % 4; t++) weights[t] = 0;
    return sum;
}

static inline void edge_attend_s8(edge_core core, uint32_t position, const float *qkv, float *y,
                                  const edge_attention_shape *shape, void *cache, void *workspace) {
    size_t count = position + 1, head_dim = shape->head_dim, slots = edge_blocks(shape->context) * 4;
    size_t group = shape->heads / shape->kv_heads;
    float *scores = workspace;
    int16_t *weights = (void *)(scores + slots);
    uint32_t *words = (void *)(weights + slots);
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, key += head_dim, value += head_dim) {
        edge_kv_head kv = edge_find_kv_head(shape, cache, g);
        edge_store(shape, kv, position, key, value, words);
        float top = edge_top(kv.value_scales, count), inverse = top > 0.0f ? shape->limit / top : 0.0f;
        for (size_t h = 0; h < group; h++, qkv += head_dim) {
            edge_row row = core.quantize(qkv, head_dim, words);
            core.dots(kv.keys, edge_blocks(count), words, edge_blocks(head_dim), row.even_sum, (edge_int *)scores);
            float largest = edge_score(scores, kv.key_scales, count), scale = row.scale * shape->scale;
            float sum = edge_weigh(scores, count, largest, scale, kv.value_scales, inverse, weights);
            float factor = top / (sum * shape->limit);
            for (size_t d = 0; d < head_dim; d += 4) {
                int32_t dots[4];
                core.wide_dots(kv.values + d * slots, weights, edge_blocks(count), dots);
                EDGE_ROLLED
                for (size_t r = 0; r < 4 && d + r < head_dim; r++) *y++ = (float)dots[r] * factor;
            }
        }
    }
}

#endif
