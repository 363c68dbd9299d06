/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "session.h"

#include "model.h"
#include "port.h"
#include "tokenizer.h"

uint32_t session_filled;
int session_has_logits;
size_t session_text_bytes;
uint16_t session_ids[SESSION_PROMPT_BYTES + 1];
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

uint64_t session_decode(uint32_t id, uint32_t position) {
    session_start(PORT_GATE_DECODE);
    edge_step(id, position, 1);
    session_has_logits = 1;
    return session_stop(PORT_GATE_DECODE);
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
    size_t ids = edge_encode(prompt, count, session_ids, SESSION_PROMPT_BYTES + 1);
    return (uint32_t)ids + (edge_model.bos_id != EDGE_NO_TOKEN);
}

uint64_t session_prefill_prompt(uint32_t count) {
    const uint16_t *ids = session_ids;
    session_filled = 0;
    session_start(PORT_GATE_PREFILL);
    for (uint32_t position = 0; position < count; position++) {
        uint32_t id = position == 0 && edge_model.bos_id != EDGE_NO_TOKEN ? edge_model.bos_id : *ids++;
        edge_step(id, position, position + 1 == count);
    }
    session_has_logits = 1;
    return session_stop(PORT_GATE_PREFILL);
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
