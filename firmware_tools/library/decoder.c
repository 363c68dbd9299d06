/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "model.h"

#include "internal/model.h"
#include "internal/sampler.h"
#include "internal/tokenizer.h"

int model_init(model_state *state, void *memory, size_t bytes) {
    if (bytes < MODEL_MEMORY_BYTES) return MODEL_TOO_LITTLE_MEMORY;
    if ((uintptr_t)memory % 16) return MODEL_MISALIGNED;
    state->kv_cache = memory;
    state->arena = state->kv_cache + MODEL_KV_CACHE_BYTES;
    state->position = 0;
    return MODEL_OK;
}

int model_prefill(model_state *state, const uint32_t *tokens, size_t count) {
    if (count == 0) return MODEL_NOTHING_TO_DO;
    if (count > MODEL_CONTEXT - state->position) return MODEL_CONTEXT_FULL;
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= MODEL_VOCAB_SIZE) return MODEL_NO_SUCH_TOKEN;
    while (count) {
        uint32_t rows = count < edge_model.rows ? (uint32_t)count : edge_model.rows;
        edge_step(state->arena, state->kv_cache, tokens, rows, state->position, rows == count);
        tokens += rows;
        count -= rows;
        state->position += rows;
    }
    return MODEL_OK;
}

int model_decode(model_state *state, uint32_t token) { return model_prefill(state, &token, 1); }

const float *model_logits(const model_state *state) {
    return (const float *)(const void *)(state->arena + edge_model.logits_offset_bytes);
}

void model_seed(model_sampler *sampler, uint64_t seed) {
    edge_sampler seeded;
    edge_seed(&seeded, seed);
    sampler->random = seeded.state;
}

uint32_t model_sample(const model_state *state, model_sampler *sampler) {
    edge_sampler inner = {sampler->temperature, sampler->top_p, sampler->random};
    uint32_t token = edge_sample(&inner, model_logits(state), MODEL_VOCAB_SIZE);
    sampler->random = inner.state;
    return token;
}

int model_is_stop(uint32_t token) {
    for (size_t i = 0; i < edge_model.stop_count; i++)
        if (edge_model.stop_ids[i] == token) return 1;
    return 0;
}

void model_rewind(model_state *state, uint32_t position) {
    if (position < state->position) state->position = position;
}

const uint8_t *model_piece(uint32_t token, size_t *bytes) { return edge_piece(token, bytes); }

size_t model_encode(const void *text, size_t bytes, uint16_t *ids, size_t room) {
    return edge_encode(text, bytes, ids, room);
}
