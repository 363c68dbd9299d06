/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "model.h"

#include "internal/plain.h"

int model_init(model_state *state, void *memory, size_t bytes) {
    if (bytes < MODEL_MEMORY_BYTES) return MODEL_TOO_LITTLE_MEMORY;
    if ((uintptr_t)memory % 16) return MODEL_MISALIGNED;
    state->kept = memory;
    state->arena = state->kept + MODEL_KEPT_BYTES;
    model_reset(state);
    return MODEL_OK;
}

void model_run(model_state *state) { edge_invoke(state->arena, state->kept); }

void model_reset(model_state *state) { edge_forget(state->kept); }
