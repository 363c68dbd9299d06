/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Attention in block floating point, but for the functions in which cores differ: attention_bfp.c and
 * attention_bfp_v6m.c each give theirs, and the compiler inlines them. ops/attention_bfp.py gives the arithmetic. */
#ifndef EDGE_ATTENTION_BFP_CORE_H
#define EDGE_ATTENTION_BFP_CORE_H

#include "attention_bfp.h"
#include "bfp.h"
#include "exp2_table.h"

#define EDGE_KEY_BITS 11
#define EDGE_VALUE_BITS 12

typedef struct {
    /* scores[count] of a query with keys; returns the largest; spare is as large as the scores */
    int32_t (*scores)(const uint8_t *keys, const uint16_t *key_factors, size_t count, const int32_t *query,
                      size_t head_dim, int32_t score_shift, int32_t *scores, int32_t *spare);
    /* makes weights of the scores that lie there; returns the sum of e in 2^-16 */
    uint32_t (*weigh)(int32_t *scores, size_t count, int32_t largest, int32_t to_step, const uint16_t *value_factors,
                      int32_t weight_shift);
    /* y[head_dim] = sums of weights times values */
    void (*sums)(const uint8_t *values, const int32_t *weights, size_t count, size_t head_dim, int32_t *y);
} edge_core;

EDGE_BFP_PART int32_t edge_scores(const uint8_t *keys, const uint16_t *key_factors, size_t count, const int32_t *query,
                                  size_t head_dim, int32_t score_shift, int32_t *scores, int32_t *spare) {
    size_t half = head_dim / 2;
    int32_t largest = INT32_MIN;
    (void)spare;
    for (size_t t = 0; t < count; t++, keys += head_dim, key_factors += 2) {
        int32_t first = 0, second = 0;
        for (size_t d = 0; d < half; d++) {
            first += query[d] * (keys[d] - 128);
            second += query[half + d] * (keys[half + d] - 128);
        }
        scores[t] = (first >> score_shift) * key_factors[0] + (second >> score_shift) * key_factors[1];
        if (scores[t] > largest) largest = scores[t];
    }
    return largest;
}

EDGE_BFP_PART uint32_t edge_weigh(int32_t *scores, size_t count, int32_t largest, int32_t to_step,
                                  const uint16_t *value_factors, int32_t weight_shift) {
    uint32_t sum = 0;
    EDGE_BFP_ROLLED
    for (size_t t = 0; t < count; t++) {
        uint32_t step = ((uint32_t)largest - (uint32_t)scores[t]) >> to_step;
        uint32_t e = edge_exp2_table[step < 1023 ? step : 1023];
        sum += e;
        scores[t] = (int32_t)(e * value_factors[t] >> weight_shift);
    }
    return sum;
}

EDGE_BFP_PART void edge_sums(const uint8_t *values, const int32_t *weights, size_t count, size_t head_dim, int32_t *y) {
    for (size_t d = 0; d < head_dim; d++) {
        int32_t sum = 0;
        for (size_t t = 0; t < count; t++) sum += weights[t] * (values[t * head_dim + d] - 128);
        y[d] = sum;
    }
}

/* One kv head's part of the cache. */
typedef struct {
    uint8_t *keys, *values, *key_codes, *value_codes;
} edge_kv_head;

static inline edge_kv_head edge_find_kv_head(const edge_attention_bfp_shape *shape, void *cache, size_t g) {
    size_t slots = shape->context, bytes = slots * shape->head_dim;
    uint8_t *keys = cache, *values = keys + shape->kv_heads * bytes;
    uint8_t *key_codes = values + shape->kv_heads * bytes, *value_codes = key_codes + 2 * shape->kv_heads * slots;
    return (edge_kv_head){keys + g * bytes, values + g * bytes, key_codes + 2 * g * slots, value_codes + g * slots};
}

/* bfp.code: writes m * 2^exponent as bytes, 128 too large; returns the code of their scale. */
EDGE_BFP_PART uint8_t edge_encode(const int32_t *m, size_t count, int32_t exponent, uint8_t *bytes) {
    static const uint16_t reciprocals[] = {32768, 29127, 26214, 23831, 21845, 20164, 18724, 17476}; /* 2^18 / 8 … 15 */
    uint32_t top = 0;
    EDGE_BFP_ROLLED
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = edge_bfp_magnitude(m[i]);
        if (magnitude > top) top = magnitude;
    }
    int32_t shift = edge_bfp_length(top) - EDGE_BFP_FULL, power = 4;
    int32_t mantissa = (edge_bfp_scaled((int32_t)top, shift) + 2032) * 33026 >> 26;
    if (mantissa > 15) mantissa = (mantissa + 1) >> 1, power = 5;
    int32_t place = power + exponent + shift - EDGE_BFP_BASE, down = 18 + power + (place < 0 ? -place : 0);
    int32_t reciprocal = top ? reciprocals[mantissa - 8] : 0, half = 1 << ((down < 31 ? down : 31) - 1);
    EDGE_BFP_ROLLED
    for (size_t i = 0; i < count; i++) {
        int32_t q = (edge_bfp_scaled(m[i], shift) * reciprocal + half) >> (down < 31 ? down : 31);
        bytes[i] = (uint8_t)(q + 128);
    }
    if (top == 0) return 0;
    return (uint8_t)((place < 0 ? 0 : place > 31 ? 31 : place) * 8 + mantissa - 8);
}

EDGE_BFP_PART uint32_t edge_top_code(const uint8_t *codes, size_t count) {
    uint32_t top = 0;
    EDGE_BFP_ROLLED
    for (size_t t = 0; t < count; t++)
        if (codes[t] > top) top = codes[t];
    return top;
}

/* Scales by their codes, in units that give the code `top` at most 15 * 2^bits. */
EDGE_BFP_PART void edge_code_factors(const uint8_t *codes, size_t count, uint32_t top, uint32_t bits,
                                     uint16_t *factors) {
    EDGE_BFP_ROLLED
    for (size_t t = 0; t < count; t++)
        factors[t] = (uint16_t)((8 + (codes[t] & 7u)) << bits >> ((top >> 3) - (codes[t] >> 3)));
}

/* What the query heads of a group share: the filled rows of their kv head and the factors of these. */
typedef struct {
    edge_kv_head kv;
    size_t count;
    uint32_t key_top, value_top;
    uint16_t *key_factors, *value_factors;
} edge_shared;

/* y[head_dim] of one query head; returns its exponent. */
static inline int32_t edge_attend_head(edge_core core, const int32_t *query, int32_t exponent, int32_t *y,
                                       const edge_attention_bfp_shape *shape, const edge_shared *shared,
                                       int32_t *scores, int32_t *narrow) {
    size_t head_dim = shape->head_dim;
    int32_t shift = edge_bfp_narrowing(edge_bfp_bits(query, head_dim), EDGE_BFP_FULL);
    edge_bfp_shift narrowing = edge_bfp_shift_of(shift);
    EDGE_BFP_ROLLED
    for (size_t d = 0; d < head_dim; d++) narrow[d] = edge_bfp_product(edge_bfp_shifted(query[d], narrowing), shape->query_factor, 16);
    int32_t largest = core.scores(shared->kv.keys, shared->key_factors, shared->count, narrow, head_dim,
                                  shape->score_shift, scores, scores + shape->context);
    int32_t unit = exponent + shift + 16 + shape->query_exponent + shape->score_shift - EDGE_KEY_BITS +
                   (int32_t)(shared->key_top >> 3) + EDGE_BFP_BASE;
    int32_t to_step = -6 - unit; /* steps of 1 / 64 */
    to_step = to_step < 0 ? 0 : to_step > 31 ? 31 : to_step;
    uint32_t sum = core.weigh(scores, shared->count, largest, to_step, shared->value_factors, shape->weight_shift);
    int32_t spare = edge_bfp_length(sum) - 16, inverse = edge_bfp_inverse(sum >> spare);
    core.sums(shared->kv.values, scores, shared->count, head_dim, y);
    EDGE_BFP_ROLLED
    for (size_t d = 0; d < head_dim; d++) y[d] = edge_bfp_product(y[d], inverse, 16);
    return shape->weight_shift - EDGE_VALUE_BITS - 14 - spare + (int32_t)(shared->value_top >> 3) + EDGE_BFP_BASE;
}

/* Heads with exponents of their own become one row. */
EDGE_BFP_PART void edge_join_heads(int32_t *y, size_t heads, size_t head_dim, const int32_t *exponents) {
    int32_t common = exponents[0];
    for (size_t h = 1; h < heads; h++)
        if (exponents[h] > common) common = exponents[h];
    *y++ = common;
    for (size_t h = 0; h < heads; h++) {
        int32_t down = common - exponents[h];
        if (down == 0) y += head_dim;
        else
            for (size_t d = 0; d < head_dim; d++, y++) *y = edge_bfp_scaled(*y, down);
    }
}

/* What all heads of a row share. */
typedef struct {
    uint32_t position;
    const int32_t *qkv;
    int32_t *y, *exponents; /* of each head of y */
    const edge_attention_bfp_shape *shape;
    void *cache;
} edge_row;

/* The scratch of a row, and of each part of its heads that is computed at the same time as another. */
static inline int32_t *edge_scratch(void *workspace, const edge_attention_bfp_shape *shape, size_t part) {
    return (int32_t *)workspace + shape->heads + part * ((7 * shape->context + 1) / 2 + shape->head_dim);
}

/* The kv heads from g to end, and the heads of each. */
static inline void edge_attend_heads(edge_core core, const edge_row *row, size_t g, size_t end, int32_t *scratch) {
    const edge_attention_bfp_shape *shape = row->shape;
    size_t head_dim = shape->head_dim, half = head_dim / 2, position = row->position, count = position + 1;
    size_t h = g * shape->group;
    int32_t *scores = scratch, *narrow = scores + 2 * shape->context;
    uint16_t *key_factors = (uint16_t *)(narrow + head_dim), *value_factors = key_factors + 2 * shape->context;
    const int32_t *qkv = row->qkv, *query = qkv + 1 + h * head_dim;
    const int32_t *key = qkv + 1 + (shape->heads + g) * head_dim, *value = key + shape->kv_heads * head_dim;
    for (; g < end; g++, key += head_dim, value += head_dim) {
        edge_kv_head kv = edge_find_kv_head(shape, row->cache, g);
        for (size_t part = 0; part < 2; part++)
            kv.key_codes[2 * position + part] =
                edge_encode(key + part * half, half, qkv[0], kv.keys + position * head_dim + part * half);
        kv.value_codes[position] = edge_encode(value, head_dim, qkv[0], kv.values + position * head_dim);
        uint32_t key_top = edge_top_code(kv.key_codes, 2 * count), value_top = edge_top_code(kv.value_codes, count);
        edge_shared shared = {kv, count, key_top, value_top, key_factors, value_factors};
        edge_code_factors(kv.key_codes, 2 * count, shared.key_top, EDGE_KEY_BITS, key_factors);
        edge_code_factors(kv.value_codes, count, shared.value_top, EDGE_VALUE_BITS, value_factors);
        for (size_t last = h + shape->group; h < last; h++, query += head_dim)
            row->exponents[h] =
                edge_attend_head(core, query, qkv[0], row->y + 1 + h * head_dim, shape, &shared, scores, narrow);
    }
}

/* Computes all heads of a row. */
typedef void edge_share(edge_core core, const edge_row *row, void *workspace);

static inline void edge_attend(edge_core core, edge_share *share, uint32_t position, const int32_t *qkv, int32_t *y,
                               const edge_attention_bfp_shape *shape, void *cache, void *workspace, size_t count) {
    size_t heads = shape->heads, all = heads + 2 * shape->kv_heads, head_dim = shape->head_dim;
    for (; count > 0; count--, position++, qkv += 1 + all * head_dim, y += 1 + heads * head_dim) {
        edge_row row = {position, qkv, y, workspace, shape, cache};
        share(core, &row, workspace);
        edge_join_heads(y, heads, head_dim, row.exponents);
    }
}

static inline void edge_alone(edge_core core, const edge_row *row, void *workspace) {
    edge_attend_heads(core, row, 0, row->shape->kv_heads, edge_scratch(workspace, row->shape, 0));
}

#endif
