/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "decoder.h"

#include "model.h"
#include "port.h"
#include "tokenizer.h"

uint32_t session_filled;
int session_has_logits;
uint16_t session_ids[SESSION_PROMPT_BYTES + 2];
static uint8_t prompt[SESSION_PROMPT_BYTES];

const char *session_name(void) { return edge_model.name; }
const char *session_info(void) { return edge_model.info; }

const float *session_logits(void) {
    return (const float *)(const void *)(edge_arena + edge_model.logits_offset_bytes);
}

uint64_t session_compute(unsigned gate, const void *ids, size_t id_bytes, uint32_t count, uint32_t position) {
    const uint8_t *at = ids;
    session_start(gate);
    while (count) {
        uint32_t rows = count < edge_model.rows ? count : edge_model.rows, tokens[EDGE_MOST_ROWS] = {0};
        for (uint32_t row = 0; row < rows; row++, at += id_bytes) __builtin_memcpy(tokens + row, at, id_bytes);
        edge_step(edge_arena, edge_kv_cache, tokens, rows, position, rows == count);
        position += rows;
        count -= rows;
    }
    session_has_logits = 1;
    return session_stop(gate);
}

uint64_t session_decode(uint32_t id, uint32_t position) {
    return session_compute(PORT_GATE_DECODE, &id, sizeof id, 1, position);
}

int session_is_stop(uint32_t id) {
    for (size_t i = 0; i < edge_model.stop_count; i++)
        if (edge_model.stop_ids[i] == id) return 1;
    return 0;
}

/* A template that leaves no room for text makes room 0 and is not used. */
size_t session_buffer_room(void) {
    size_t template = session_length(edge_model.before) + session_length(edge_model.after);
    return template < sizeof prompt ? sizeof prompt - template : 0;
}

uint8_t *session_buffer(void) {
    return session_buffer_room() ? prompt + session_length(edge_model.before) : prompt;
}

uint32_t session_encode_prompt(void) {
    size_t count = session_loaded;
    if (session_buffer_room()) {
        uint8_t *at = prompt;
        for (const char *c = edge_model.before; *c; c++) *at++ = (uint8_t)*c;
        at += session_loaded;
        for (const char *c = edge_model.after; *c; c++) *at++ = (uint8_t)*c;
        count = (size_t)(at - prompt);
    }
    uint32_t first = edge_model.bos_id != EDGE_NO_TOKEN;
    session_ids[0] = (uint16_t)edge_model.bos_id;
    return first + (uint32_t)edge_encode(prompt, count, session_ids + first, SESSION_PROMPT_BYTES + 1);
}

uint64_t session_prefill_prompt(uint32_t count) {
    session_filled = 0;
    return session_compute(PORT_GATE_PREFILL, session_ids, sizeof *session_ids, count, 0);
}
