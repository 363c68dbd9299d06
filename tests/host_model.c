/* A tiny model for the firmware on this machine: the logits are a hash of all tokens so far, so that every token, every
 * position and their order matter. tests/link_device.py computes the same. */
#include <stdlib.h>

#include "model.h"

#define VOCAB 300u
#ifndef CONTEXT
#define CONTEXT 128u
#endif

extern int host_gates;
uint64_t host_model_steps;
static uint32_t state[CONTEXT]; /* the "KV cache": one hash a position */
_Alignas(16) uint8_t edge_arena[4 * VOCAB];
_Alignas(16) uint8_t edge_kv_cache[1];
static const uint32_t stop_ids[] = {2};

#ifndef MODEL_SHA
#define MODEL_SHA "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const edge_facts edge_model = {
    .vocab_size = VOCAB,
    .context = CONTEXT,
    .rows = 2,
    .bos_id = 1,
    .stop_ids = stop_ids,
    .stop_count = 1,
    .before = "Q:",
    .after = "\nA:",
    .name = "hash",
    .sha256 = MODEL_SHA,
    .info = "{\"model\":\"" MODEL_SHA "\",\"name\":\"hash\",\"contract\":\"1.0\",\"vocab_size\":300,\"context\":128,"
            "\"layers\":1,\"bos_id\":1,\"stop_ids\":[2],\"arena_bytes\":1200,\"kv_cache_bytes\":512,\"weight_bytes\":0,"
            "\"vocabulary_bytes\":2000,\"can_encode\":true}",
};

static uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

void edge_step(uint8_t *arena, uint8_t *kv_cache, const uint32_t *tokens, uint32_t count, uint32_t position,
               int want_logits) {
    float *values = (float *)(void *)arena;
    (void)kv_cache;
    if (count < 1 || count > edge_model.rows) abort();
    for (; count--; tokens++, position++) {
        if (*tokens >= VOCAB || position >= CONTEXT || !host_gates) abort();
        host_model_steps++;
        state[position] = mix((position ? state[position - 1] : 0) + *tokens * 0x9e3779b9u + 1u);
    }
    position--;
    if (!want_logits) return;
    for (uint32_t i = 0; i < VOCAB; i++) values[i] = (float)(mix(state[position] ^ i) >> 8) / 1048576.0f;
}
