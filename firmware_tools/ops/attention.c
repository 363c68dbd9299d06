/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "attention.h"

#include "attention_s8.h"
#include "exp.h"

void edge_attention_s8(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, size_t count,
                       void *cache, void *workspace) {
    edge_core core = {edge_quantize,      edge_scores, edge_top,          edge_find_factors,
                      edge_largest_score, edge_weigh,  edge_weighted_sums};
    edge_attend_s8(core, position, qkv, y, shape, count, cache, workspace);
}

/* Softmax weights, not yet divided by their sum, which is returned. */
static float weigh_f32(const float *query, const float *keys, size_t count, size_t head_dim, float scale, float *weights) {
    float largest = -3.40282347e38f, sum = 0.0f;
    for (size_t t = 0; t < count; t++, keys += head_dim) {
        float dot = 0.0f;
        for (size_t d = 0; d < head_dim; d++) dot += query[d] * keys[d];
        weights[t] = dot * scale;
        if (weights[t] > largest) largest = weights[t];
    }
    for (size_t t = 0; t < count; t++) {
        weights[t] = edge_exp(weights[t] - largest);
        sum += weights[t];
    }
    return sum;
}

static void attend_f32(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, void *cache,
                       void *workspace) {
    size_t head_dim = shape->head_dim, count = position + 1, head_floats = shape->context * head_dim;
    size_t group = shape->heads / shape->kv_heads;
    float *keys = cache, *values = keys + shape->kv_heads * head_floats, *weights = workspace;
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, keys += head_floats, values += head_floats) {
        for (size_t d = 0; d < head_dim; d++) {
            keys[position * head_dim + d] = *key++;
            values[position * head_dim + d] = *value++;
        }
        for (size_t h = 0; h < group; h++, qkv += head_dim, y += head_dim) {
            float inverse = 1.0f / weigh_f32(qkv, keys, count, head_dim, shape->scale, weights);
            for (size_t d = 0; d < head_dim; d++) {
                float sum = 0.0f;
                for (size_t t = 0; t < count; t++) sum += weights[t] * values[t * head_dim + d];
                y[d] = sum * inverse;
            }
        }
    }
}

void edge_attention_f32(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, size_t count,
                        void *cache, void *workspace) {
    for (; count--; position++, qkv += edge_qkv_size(shape), y += shape->heads * shape->head_dim)
        attend_f32(position, qkv, y, shape, cache, workspace);
}
