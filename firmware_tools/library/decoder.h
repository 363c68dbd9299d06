/* @PREFIX@: a language model in plain C, written by edge.
 *
 *     static _Alignas(16) uint8_t memory[MODEL_MEMORY_BYTES];
 *     model_state state;
 *     model_sampler sampler = {.temperature = 0.0f, .top_p = 1.0f};
 *     if (model_init(&state, memory, sizeof memory)) … ;
 *     if (model_prefill(&state, ids, count)) … ;
 *     for (uint32_t id; !model_is_stop(id = model_sample(&state, &sampler));) {
 *         use(id);
 *         if (model_decode(&state, id)) break;
 *     }
 *
 * No heap, no variables of its own, no hardware: all that changes lies in the state and in the memory that the caller gives,
 * so that several states run side by side, each in its own memory. Functions of one state must not run at once. Built for
 * @CORE@; the numbers are those of the firmware that `edge build` makes, bit for bit, where floats are not contracted
 * (-ffp-contract=off, which the CMakeLists.txt beside sets).
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@SIZES@

enum {
    MODEL_OK = 0,
    MODEL_TOO_LITTLE_MEMORY = -1, /* fewer bytes than MODEL_MEMORY_BYTES */
    MODEL_MISALIGNED = -2,        /* memory is not on a multiple of 16 */
    MODEL_NO_SUCH_TOKEN = -3,     /* an id of MODEL_VOCAB_SIZE or more */
    MODEL_CONTEXT_FULL = -4,      /* more than MODEL_CONTEXT positions */
    MODEL_NOTHING_TO_DO = -5      /* no tokens */
};

/* A text in progress. Change it by the functions below alone. */
typedef struct {
    uint8_t *arena, *kv_cache;
    uint32_t position; /* of the next token: so many are computed */
} model_state;

/* How tokens are chosen. Set temperature and top_p, then call model_seed; or leave temperature 0 for the likeliest. */
typedef struct {
    float temperature; /* logits are divided by it; 0: the likeliest token, the lowest id of equals */
    float top_p;       /* chosen among the likeliest tokens whose probability reaches this; 1: all */
    uint64_t random;   /* the generator's state */
} model_sampler;

/* Prepares an empty text in memory, which is the caller's and must live as long as the state. It need not be cleared. */
int model_init(model_state *state, void *memory, size_t bytes);

/* Computes count tokens after those that are there, the last one's logits too. Where it fails nothing has changed. */
int model_prefill(model_state *state, const uint32_t *tokens, size_t count);

/* Computes one token. The same as model_prefill of it. */
int model_decode(model_state *state, uint32_t token);

/* The logits after the last token computed, float32[MODEL_VOCAB_SIZE]; until the next token is. */
const float *model_logits(const model_state *state);

void model_seed(model_sampler *sampler, uint64_t seed);

/* Chooses a token from the logits. It is not computed yet. */
uint32_t model_sample(const model_state *state, model_sampler *sampler);

/* Is this a token that ends a text? */
int model_is_stop(uint32_t token);

/* Forgets all tokens from a position on, which must not be above state->position. The logits are then those of before. */
void model_rewind(model_state *state, uint32_t position);

/* The bytes of a token, not zero-terminated; none for a special one. */
const uint8_t *model_piece(uint32_t token, size_t *bytes);

/* Encodes text, without MODEL_BOS. Room for bytes + 1 ids is always enough; returns how many there are, or more than room
 * where that was too little. 0 where MODEL_CAN_ENCODE is 0. */
size_t model_encode(const void *text, size_t bytes, uint16_t *ids, size_t room);

#ifdef __cplusplus
}
#endif

#endif
