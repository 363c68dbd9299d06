/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "frames.h"

#include "exp.h"
#include "model.h"
#include "port.h"
#include "sampler.h"
#include "tokenizer.h"

enum { HELLO = 1, PREFILL, FORWARD, GENERATE, LOGITS, ENCODE, LINES, ERROR = 0x7F, REPLY = 0x80 };

#define SILENCE_MS 2000u
#define SEED 1u
#define HEAD 2u  /* sequence, kind */
#define CRC 2u
#define STEP_BYTES 12u /* id u32, ticks u64 */

static uint8_t request[HEAD + FRAMES_REQUEST_BYTES + CRC + FRAMES_REQUEST_BYTES / 254u + 2u]; /* stuffed, then plain */
static size_t received; /* more than sizeof request: too long, waiting for its end */
static uint8_t reply[HEAD + FRAMES_REPLY_BYTES + CRC];
static size_t replied; /* payload bytes in reply */
static struct {
    uint8_t sequence, kind;
    uint16_t crc;
    int valid;
} answered; /* the request that reply belongs to */
static uint32_t heard_ms;
static edge_sampler sampler; /* seeded by the first GENERATE, unless that brings a seed of its own */

edge_mode frames_enter(void) {
    received = 0;
    heard_ms = port_millis();
    return MODE_FRAMES;
}

int frames_expired(void) {
    return (uint32_t)(port_millis() - heard_ms) > SILENCE_MS;
}

static uint16_t crc16(const uint8_t *bytes, size_t count) {
    uint32_t crc = 0xFFFF;
    while (count--) {
        crc ^= (uint32_t)*bytes++ << 8;
        for (int bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
    }
    return (uint16_t)crc;
}

static uint32_t read_u32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Callers keep within FRAMES_REPLY_BYTES; what does not fit is left out all the same. Not inlined: many calls. */
__attribute__((noinline)) static void put(uint32_t byte) {
    if (replied < FRAMES_REPLY_BYTES) reply[HEAD + replied++] = (uint8_t)byte;
}

__attribute__((noinline)) static void put_u32(uint32_t value) {
    for (int i = 0; i < 4; i++, value >>= 8) put(value);
}

__attribute__((noinline)) static void put_text(const char *text) {
    while (*text) put((uint8_t)*text++);
}

static void put_u64(uint64_t value) {
    put_u32((uint32_t)value);
    put_u32((uint32_t)(value >> 32));
}

static void put_number(uint64_t number) {
    char digits[21];
    digits[session_digits(number, digits)] = 0;
    put_text(digits);
}

static void error(const char *text) {
    reply[1] = ERROR;
    replied = 0;
    put_text(text);
}

static void error_number(const char *text, uint32_t number) {
    error(text);
    put_number(number);
}

static void put_field(const char *name, uint64_t number) {
    put_text(name);
    put_number(number);
}

static int is_emulated(void) {
    static const char mark[] = "EMULATED";
    size_t i = 0;
    while (mark[i] && port_name[i] == mark[i]) i++;
    return mark[i] == 0;
}

/* The facts of the model, and behind them those of the running board, in one JSON object. */
static void hello(void) {
    const char *info = edge_model.info;
    while (info[0] && info[1]) put((uint8_t)*info++); /* all but the closing brace */
    put_text(",\"board\":\"");
    put_text(port_name);
    put_text(is_emulated() ? "\",\"emulated\":true" : "\",\"emulated\":false");
    put_field(",\"ticks_hz\":", port_ticks_hz());
    put_field(",\"max_payload\":", FRAMES_REQUEST_BYTES);
    size_t stack = port_stack_bytes();
    if (stack) put_field(",\"stack_bytes\":", stack);
    put('}');
    if (replied == FRAMES_REPLY_BYTES) error("the facts of the model are too long for one answer");
}

static int may_compute(uint32_t position, uint32_t count) {
    if (position > session_filled) {
        error_number("the next position to compute, and the last allowed, is ", session_filled);
    } else if (position >= edge_model.context || count > edge_model.context - position) {
        error_number("the context is full: positions end before ", edge_model.context);
    } else {
        return 1;
    }
    return 0;
}

static void compute(unsigned gate, const uint8_t *payload, size_t count) {
    uint32_t position = read_u32(payload);
    const uint8_t *ids = payload + 4;
    if (!may_compute(position, (uint32_t)count)) return;
    for (size_t i = 0; i < count; i++) {
        if (read_u32(ids + 4 * i) >= edge_model.vocab_size) {
            error_number("no such token: ids end at ", edge_model.vocab_size - 1u);
            return;
        }
    }
    put_u64(session_compute(gate, ids, 4, (uint32_t)count, position));
    session_filled = position + (uint32_t)count;
}

static void generate(const uint8_t *payload) {
    uint32_t count = payload[0] | (uint32_t)payload[1] << 8;
    float temperature = edge_bits_float(read_u32(payload + 4)), top_p = edge_bits_float(read_u32(payload + 8));
    if (session_filled == 0) {
        error("nothing is computed yet: PREFILL or FORWARD first");
    } else if (count == 0 || count > FRAMES_REPLY_BYTES / STEP_BYTES) {
        error_number("the count of one request is from 1 to ", FRAMES_REPLY_BYTES / STEP_BYTES);
    } else if (!(temperature >= 0.0f && temperature <= 1e6f && top_p > 0.0f && top_p <= 1.0f)) {
        error("temperature is from 0 to 1e6, top_p above 0 and at most 1");
    } else {
        sampler.temperature = temperature;
        sampler.top_p = top_p;
        if (payload[2] & SEED || !sampler.state) /* without a seed ever given it is 0, as on the host */
            edge_seed(&sampler, payload[2] & SEED ? read_u32(payload + 12) | (uint64_t)read_u32(payload + 16) << 32 : 0);
        while (count-- && session_filled < edge_model.context) {
            uint32_t id = edge_sample(&sampler, session_logits(), edge_model.vocab_size);
            int stop = session_is_stop(id);
            put_u32(id);
            put_u64(stop ? 0 : session_decode(id, session_filled));
            if (stop) return;
            session_filled++;
        }
    }
}

static void logits(uint32_t first) {
    if (!session_has_logits) {
        error("there are no logits yet: PREFILL or FORWARD first");
    } else if (first >= edge_model.vocab_size) {
        error_number("logits end at ", edge_model.vocab_size - 1u);
    } else {
        for (; first < edge_model.vocab_size && replied + 4 <= FRAMES_REPLY_BYTES; first++)
            put_u32(edge_float_bits(session_logits()[first]));
    }
}

static void encode(const uint8_t *text, size_t count) {
    size_t ids = edge_can_encode ? edge_encode(text, count, session_ids, SESSION_PROMPT_BYTES + 1) : 0;
    if (!edge_can_encode) {
        error("this model's tokenizer runs on the host only");
    } else if (ids > FRAMES_REPLY_BYTES / 4) {
        error_number("an answer has room for fewer tokens than the text has: ", (uint32_t)ids);
    } else {
        for (size_t i = 0; i < ids; i++) put_u32(session_ids[i]);
    }
}

/* Carries out a request whose CRC is right; reply receives kind and payload. */
static void carry_out(uint8_t kind, const uint8_t *payload, size_t count) {
    replied = 0;
    reply[1] = kind | REPLY;
    if (kind == HELLO && count == 0) {
        hello();
    } else if (kind == PREFILL && count >= 8 && count % 4 == 0) {
        compute(PORT_GATE_PREFILL, payload, count / 4 - 1);
    } else if (kind == FORWARD && count == 8) {
        compute(PORT_GATE_DECODE, payload, 1);
    } else if (kind == GENERATE && count == 20) {
        generate(payload);
    } else if (kind == LOGITS && count == 4) {
        logits(read_u32(payload));
    } else if (kind == ENCODE) {
        encode(payload, count);
    } else if (kind != LINES || count != 0) {
        error_number("no request has this form and kind ", kind);
    }
}

/* Sends reply, stuffed; the zero before it parts it from whatever text went before. */
static void send(void) {
    static const uint8_t zero = 0;
    size_t end = HEAD + replied + CRC;
    port_write(&zero, 1);
    for (size_t at = 0; at <= end;) {
        size_t run = 0;
        while (run < 254 && at + run < end && reply[at + run]) run++;
        uint8_t code = (uint8_t)(run + 1);
        port_write(&code, 1);
        port_write(reply + at, run);
        at += run < 254 ? run + 1 : run;
    }
    port_write(&zero, 1);
}

/* Undoes the stuffing in place; returns the bytes, or 0 for what cannot have been stuffed. */
static size_t unstuff(uint8_t *bytes, size_t count) {
    size_t from = 0, to = 0;
    while (from < count) {
        uint8_t code = bytes[from++];
        if (code - 1u > count - from) return 0;
        for (uint8_t i = 1; i < code; i++) bytes[to++] = bytes[from++];
        if (code < 255 && from < count) bytes[to++] = 0;
    }
    return to;
}

static edge_mode packet(size_t stuffed) {
    size_t count = unstuff(request, stuffed);
    if (count < HEAD + CRC || count > HEAD + FRAMES_REQUEST_BYTES + CRC) return MODE_FRAMES;
    count -= CRC;
    uint16_t crc = (uint16_t)(request[count] | request[count + 1] << 8);
    if (crc != crc16(request, count)) return MODE_FRAMES;
    uint8_t sequence = request[0], kind = request[1];
    if (!answered.valid || answered.sequence != sequence || answered.kind != kind || answered.crc != crc) {
        reply[0] = sequence;
        carry_out(kind, request + HEAD, count - HEAD);
        uint16_t sum = crc16(reply, HEAD + replied);
        reply[HEAD + replied] = (uint8_t)sum;
        reply[HEAD + replied + 1] = (uint8_t)(sum >> 8);
        answered.sequence = sequence;
        answered.kind = kind;
        answered.crc = crc;
        answered.valid = 1;
    }
    send();
    heard_ms = port_millis();
    return kind == LINES ? MODE_LINES : MODE_FRAMES;
}

edge_mode frames_byte(int byte) {
    if (byte == PORT_BREAK) return MODE_LINES;
    if (byte != 0) {
        if (received < sizeof request) request[received] = (uint8_t)byte;
        if (received <= sizeof request) received++;
        return MODE_FRAMES;
    }
    size_t stuffed = received;
    received = 0;
    return stuffed > sizeof request ? MODE_FRAMES : packet(stuffed);
}
