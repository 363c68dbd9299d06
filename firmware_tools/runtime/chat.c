/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "chat.h"

#include "answer.h"
#include "decoder.h"
#include "lines.h"
#include "model.h"
#include "port.h"
#include "sampler.h"
#include "tokenizer.h"

#define CTRL_C 3
#define CTRL_D 4
#define BACKSPACE 8
#define ESCAPE 27
#define DELETE 127

static size_t length; /* of the line so far; more than the room: too long */
static enum { TEXT, ESCAPED, SEQUENCE } keys; /* arrows and their kin come as ESC [ … letter */

static edge_mode leave(void) {
    session_print("\r\n");
    lines_ready();
    return MODE_LINES;
}

static void prompt(void) {
    length = 0;
    keys = TEXT;
    session_print("> ");
}

edge_mode chat_enter(void) {
    if (!edge_can_encode) {
        session_print("e-[No chat: this model's tokenizer runs on the host only]\r\n");
        lines_ready();
        return MODE_LINES;
    }
    session_print("[");
    session_print(edge_model.name);
    session_print("; Ctrl-D leaves]\r\n");
    prompt();
    return MODE_CHAT;
}

/* Streams tokens until one stops the text, the context is full, or a byte comes in; returns that byte. */
static int generate(uint32_t position) {
    edge_sampler greedy = {0.0f, 1.0f, 0};
    answer_begin();
    for (; position < edge_model.context; position++) {
        int byte = session_read();
        if (byte != PORT_NOTHING) return byte;
        uint32_t id = edge_sample(&greedy, session_logits(), edge_model.vocab_size);
        if (session_is_stop(id)) {
            answer_end(ANSWER_TO_PERSON);
            return PORT_NOTHING;
        }
        size_t bytes;
        const uint8_t *piece = edge_piece(id, &bytes);
        port_write(piece, bytes);
        answer_add(piece, bytes);
        session_decode(id, position);
    }
    session_print("\r\n[the context is full]");
    return PORT_NOTHING;
}

/* Answers the line; returns the byte that ended the answer early, else PORT_NOTHING. */
static int answer(void) {
    int byte = PORT_NOTHING;
    session_print("\r\n");
    if (length > session_buffer_room()) {
        session_say("[The line is too long: at most ", session_buffer_room(), " bytes]");
    } else {
        session_loaded = length;
        uint32_t tokens = session_encode_prompt();
        if (tokens >= edge_model.context) {
            session_say("[The line is too long: ", tokens, " tokens, and the context has room for ");
            session_say("", edge_model.context - 1u, "]");
        } else {
            session_prefill_prompt(tokens);
            byte = generate(tokens);
        }
    }
    session_print("\r\n");
    prompt();
    return byte == '\r' || byte == '\n' || byte == CTRL_C ? PORT_NOTHING : byte;
}

/* Takes the last character back, on the screen too; of a line that is too long what did not fit, which was not shown. */
static void erase(void) {
    if (length > session_buffer_room()) {
        length--;
    } else if (length) {
        while (--length && (session_buffer()[length] & 0xC0) == 0x80) { /* all bytes of a UTF-8 character */
        }
        session_print("\b \b");
    }
}

/* A key within a line: text is shown as it is typed, since terminals at a serial line do not show it themselves. */
static void edit(uint8_t byte) {
    if (keys != TEXT) {
        int goes_on = keys == ESCAPED ? byte == '[' || byte == 'O' : byte < 0x40;
        keys = goes_on ? SEQUENCE : TEXT;
    } else if (byte == ESCAPE) {
        keys = ESCAPED;
    } else if (byte == BACKSPACE || byte == DELETE) {
        erase();
    } else if (byte >= ' ' || byte == '\t') {
        if (byte == '\t') byte = ' ';
        size_t room = session_buffer_room();
        if (length < room) {
            session_buffer()[length++] = byte;
            port_write(&byte, 1);
        } else {
            if (length == room) session_print("\a");
            length = room + 1;
        }
    }
}

edge_mode chat_byte(int byte) {
    while (byte != PORT_NOTHING) {
        if (byte == 0 || byte == PORT_BREAK || (byte == CTRL_D && length == 0)) return leave();
        if (byte == '\r' || byte == '\n' || byte == CTRL_C) {
            if (length == 0 || byte == CTRL_C) {
                session_print("\r\n");
                prompt();
                return MODE_CHAT;
            }
            byte = answer(); /* what ended the answer begins the next line */
            continue;
        }
        edit((uint8_t)byte);
        break;
    }
    return MODE_CHAT;
}
