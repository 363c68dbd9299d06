/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "session.h"

#include "model.h"
#include "port.h"
#include "tokenizer.h"

uint32_t session_filled;
int session_has_logits;
size_t session_text_bytes;
uint16_t session_ids[SESSION_PROMPT_BYTES + 2];
static uint8_t prompt[SESSION_PROMPT_BYTES];
static uint64_t started;

void session_start(unsigned gate) {
    port_gate(gate, 1);
    started = port_ticks();
}

uint64_t session_stop(unsigned gate) {
    uint64_t ticks = port_ticks() - started;
    port_gate(gate, 0);
    return ticks;
}

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

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

/* A template that leaves no room for text makes room 0 and is not used. */
size_t session_text_room(void) {
    size_t template = length_of(edge_model.before) + length_of(edge_model.after);
    return template < sizeof prompt ? sizeof prompt - template : 0;
}

uint8_t *session_text(void) {
    return session_text_room() ? prompt + length_of(edge_model.before) : prompt;
}

uint32_t session_encode_prompt(void) {
    size_t count = session_text_bytes;
    if (session_text_room()) {
        uint8_t *at = prompt;
        for (const char *c = edge_model.before; *c; c++) *at++ = (uint8_t)*c;
        at += session_text_bytes;
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

int session_read(void) {
    static int previous;
    int byte = port_read();
    if (byte == '\n' && previous == '\r') byte = port_read();
    if (byte != PORT_NOTHING) previous = byte;
    return byte;
}

void session_print(const char *text) {
    port_write((const uint8_t *)text, length_of(text));
}

size_t session_digits(uint64_t number, char digits[20]) {
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10u);
        number /= 10u;
    } while (number);
    for (size_t i = 0; i < count / 2; i++) {
        char swapped = digits[i];
        digits[i] = digits[count - 1 - i];
        digits[count - 1 - i] = swapped;
    }
    return count;
}

void session_say(const char *before, uint64_t number, const char *after) {
    char digits[20];
    session_print(before);
    port_write((const uint8_t *)digits, session_digits(number, digits));
    session_print(after);
}
