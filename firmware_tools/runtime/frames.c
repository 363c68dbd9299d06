/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "frames.h"

#include "port.h"

enum { HELLO = 1, LINES = 7, CHECK = 13, ERROR = 0x7F, REPLY = 0x80 };

#define SILENCE_MS 2000u
#define HEAD 2u  /* sequence, kind */
#define CRC 2u

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

uint32_t frames_u32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Callers keep within FRAMES_REPLY_BYTES; what does not fit is left out all the same. Not inlined: many calls. */
__attribute__((noinline)) void frames_put(uint32_t byte) {
    if (replied < FRAMES_REPLY_BYTES) reply[HEAD + replied++] = (uint8_t)byte;
}

__attribute__((noinline)) void frames_put_u32(uint32_t value) {
    for (int i = 0; i < 4; i++, value >>= 8) frames_put(value);
}

__attribute__((noinline)) static void put_text(const char *text) {
    while (*text) frames_put((uint8_t)*text++);
}

void frames_put_u64(uint64_t value) {
    frames_put_u32((uint32_t)value);
    frames_put_u32((uint32_t)(value >> 32));
}

size_t frames_room(void) {
    return FRAMES_REPLY_BYTES - replied;
}

static void put_number(uint64_t number) {
    char digits[21];
    digits[session_digits(number, digits)] = 0;
    put_text(digits);
}

void frames_error(const char *text) {
    reply[1] = ERROR;
    replied = 0;
    put_text(text);
}

void frames_error_number(const char *text, uint32_t number) {
    frames_error(text);
    put_number(number);
}

static void put_field(const char *name, uint64_t number) {
    put_text(name);
    put_number(number);
}

static int is_emulated(void) {
    static const char mark[] = "EMULATED";
    const char *name = port_name();
    size_t i = 0;
    while (mark[i] && name[i] == mark[i]) i++;
    return mark[i] == 0;
}

/* The facts of the model, and behind them those of the running board, in one JSON object. */
static void hello(void) {
    const char *info = session_info();
    while (info[0] && info[1]) frames_put((uint8_t)*info++); /* all but the closing brace */
    put_text(",\"board\":\"");
    put_text(port_name());
    put_text(is_emulated() ? "\",\"emulated\":true" : "\",\"emulated\":false");
    put_field(",\"ticks_hz\":", port_ticks_hz());
    put_field(",\"max_payload\":", FRAMES_REQUEST_BYTES);
    put_text(",\"image\":\"");
    put_text(edge_image);
    put_text("\",\"trouble\":\"");
    put_text(port_trouble());
    put_text("\",\"weights_in\":\"");
    put_text(port_weights_in());
    frames_put('"');
    if (edge_acts) put_text(",\"acts\":true");
    size_t stack = port_stack_bytes();
    if (stack) put_field(",\"stack_bytes\":", stack);
    frames_put('}');
    if (replied == FRAMES_REPLY_BYTES) frames_error("the facts of the model are too long for one answer");
}

/* What flash really holds, for who has flashed it: bytes u32, CRC-32 u32 (ISO-HDLC, as zlib's). */
static void check(void) {
    const uint8_t *at;
    size_t bytes = port_image(&at);
    if (!bytes) {
        frames_error("where the image lies is not known here");
        return;
    }
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    frames_put_u32((uint32_t)bytes);
    frames_put_u32(~crc);
}

/* Carries out a request whose CRC is right; reply receives kind and payload. */
static void carry_out(uint8_t kind, const uint8_t *payload, size_t count) {
    replied = 0;
    reply[1] = kind | REPLY;
    if (kind == HELLO && count == 0) {
        hello();
    } else if (kind == CHECK && count == 0) {
        check();
    } else if ((kind != LINES || count != 0) && !frames_request(kind, payload, count)) {
        frames_error_number("no request has this form and kind ", kind);
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
