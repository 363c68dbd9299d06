/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "lines.h"

#include "chat.h"
#include "exp.h"
#include "frames.h"
#include "model.h"
#include "port.h"
#include "sampler.h"
#include "tokenizer.h"

#define COMMAND_BYTES 80 /* as EEMBC's EE_CMD_SIZE; the % not counted */
#define BUFFER_LINE_BYTES 8
#define RESULTS 5
#define WARMUP 10 /* where infer does not say */
#define VERSION "ULPMark for tinyML Firmware V0.0.1"

static char command[COMMAND_BYTES + 1];
static size_t length;     /* more than COMMAND_BYTES: too long, waiting for its % */
static char *words;       /* what next_word has not given out yet */
static size_t expected;   /* bytes that db load announced; 0: none, or all are here */

void lines_ready(void) {
    session_print("m-ready\r\n");
}

static void timestamp(void) {
    uint32_t hz = port_ticks_hz();
    uint64_t ticks = port_ticks();
    if (hz == 0) hz = 1;
    session_say("m-lap-us-", ticks / hz * 1000000u + ticks % hz * 1000000u / hz, "\r\n");
}

void lines_boot(void) {
    session_print("m-timestamp-mode-performance\r\n");
    timestamp();
    session_print("m-init-done\r\n");
    lines_ready();
}

static char *next_word(void) {
    while (*words == ' ') words++;
    if (*words == 0) return 0;
    char *word = words;
    while (*words && *words != ' ') words++;
    if (*words) *words++ = 0;
    return word;
}

__attribute__((noinline)) static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* As atoi: what is no number is 0; stops growing where int32 ends. */
static int32_t number(const char *word) {
    int negative = *word == '-';
    int32_t value = 0;
    if (*word == '-' || *word == '+') word++;
    for (; *word >= '0' && *word <= '9' && value < 100000000; word++) value = value * 10 + (*word - '0');
    return negative ? -value : value;
}

static void profile(void) {
    session_print("m-profile-[" VERSION "]\r\nm-model-[");
    session_print(edge_model.name);
    session_print("]\r\nm-ext-[edge 1 frames cobs crc16]\r\n");
}

static void help(void) {
    session_print(VERSION
                  "\r\n\r\n"
                  "name, profile, timestamp, help, results\r\n"
                  "infer N [W=10] : after W to warm up\r\n"
                  "db load N, db HH.., db print : prompt\r\n"
                  "frames : for programs\r\n"
                  "Each ends with %. Enter: chat.\r\n");
}

static void db_load(void) {
    const char *word = next_word();
    int32_t bytes = word ? number(word) : 0;
    size_t room = session_text_room();
    expected = 0;
    session_text_bytes = 0;
    if (!word) {
        session_print("e-[Command 'db load' requires the # of bytes]\r\n");
    } else if (bytes <= 0) {
        session_print("e-[Command 'db load' must be >0 bytes]\r\n");
    } else if ((size_t)bytes > room) {
        session_say("Supplied buffer size ", (uint32_t)bytes, " exceeds maximum of ");
        session_say("", room, "\r\n");
    } else {
        expected = (size_t)bytes;
        session_say("m-[Expecting ", expected, " bytes]\r\n");
    }
}

__attribute__((noinline)) static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Letters and the like as they are, what a terminal might obey as a question mark. */
static void print_word(const char *word, size_t count) {
    for (; count-- && *word; word++) {
        uint8_t c = *word < 0x20 || *word > 0x7E ? '?' : (uint8_t)*word;
        port_write(&c, 1);
    }
}

static void db_bytes(const char *digits) {
    size_t count = 0;
    while (digits[count]) count++;
    if (count & 1) {
        session_print("e-[Insufficent number of hex digits]\r\n");
        return;
    }
    for (; *digits; digits += 2) {
        int high = hex_digit(digits[0]), low = hex_digit(digits[1]);
        if (high < 0 || low < 0) {
            session_print("e-[Invalid hex digit '");
            print_word(digits, 2);
            session_print("']\r\n");
            return;
        }
        if (session_text_bytes >= expected) {
            session_print("e-[Command 'db' needs 'db load' first]\r\n");
            return;
        }
        session_text()[session_text_bytes++] = (uint8_t)(high << 4 | low);
        if (session_text_bytes == expected) {
            expected = 0;
            session_print("m-load-done\r\n");
            return; /* as EEMBC's: digits that are left over are disregarded */
        }
    }
}

static void db_print(void) {
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < session_text_bytes; i++) {
        uint8_t byte = session_text()[i];
        uint8_t text[3] = {(uint8_t)hex[byte >> 4], (uint8_t)hex[byte & 15], '-'};
        int last = (i + 1) % BUFFER_LINE_BYTES == 0 || i + 1 == session_text_bytes;
        if (i % BUFFER_LINE_BYTES == 0) session_print("m-buffer-");
        port_write(text, last ? 2 : 3);
        if (last) session_print("\r\n");
    }
}

static void db(void) {
    const char *word = next_word();
    if (!word) {
        session_print("e-[Command 'db' requires a subcommand]\r\n");
    } else if (same(word, "load")) {
        db_load();
    } else if (same(word, "print")) {
        db_print();
    } else {
        db_bytes(word);
    }
}

/* Three digits behind the point. */
static void print_probability(float p) {
    char digits[20];
    uint32_t thousandths = p >= 0.0f && p <= 1.0f ? (uint32_t)(p * 1000.0f + 0.5f) : 0;
    session_digits(1000u + thousandths, digits);
    uint8_t text[5] = {(uint8_t)(digits[0] - 1), '.', (uint8_t)digits[1], (uint8_t)digits[2], (uint8_t)digits[3]};
    port_write(text, sizeof text);
}

/* Once in the image, where edge_exp would be inlined at every call. */
__attribute__((noinline)) static float power(float x) {
    return edge_exp(x);
}

/* The index of the largest logit that comes after `after` in order (larger first, then lower index). */
static uint32_t next_largest(uint32_t after) {
    uint32_t best = EDGE_NO_TOKEN;
    for (uint32_t i = 0; i < edge_model.vocab_size; i++) {
        float x = session_logits()[i];
        if (after != EDGE_NO_TOKEN && !(x < session_logits()[after] || (x == session_logits()[after] && i > after))) continue;
        if (best == EDGE_NO_TOKEN ? x == x : x > session_logits()[best]) best = i;
    }
    return best;
}

/* The most probable tokens as id,probability,… : numbers and commas, which any host of this protocol can read. */
static void results(void) {
    if (!session_has_logits) {
        session_print("e-[No results: infer first]\r\n");
        return;
    }
    uint32_t id = next_largest(EDGE_NO_TOKEN);
    float largest = id == EDGE_NO_TOKEN ? 0.0f : session_logits()[id], sum = 0.0f;
    for (uint32_t i = 0; i < edge_model.vocab_size; i++) sum += power(session_logits()[i] - largest);
    session_print("m-results-[");
    for (int i = 0; i < RESULTS && id != EDGE_NO_TOKEN; i++, id = next_largest(id)) {
        session_say(i ? "," : "", id, ",");
        print_probability(power(session_logits()[id] - largest) / sum);
    }
    session_print("]\r\n");
}

/* Returns 0 where the host interrupts by NUL or BREAK; other bytes are not expected here, and lost. */
static int repeat(int32_t times, uint32_t tokens) {
    edge_sampler greedy = {0.0f, 1.0f, 0};
    while (times-- > 0) {
        session_prefill_prompt(tokens);
        session_decode(edge_sample(&greedy, session_logits(), edge_model.vocab_size), tokens);
        for (int byte; (byte = port_read()) != PORT_NOTHING;)
            if (byte == 0 || byte == PORT_BREAK) return 0;
    }
    return 1;
}

/* The tokens of the prompt, or 0 after saying why it cannot be run. */
static uint32_t prepare_prompt(void) {
    if (!edge_can_encode) {
        session_print("e-[This model's tokenizer runs on the host only: use frames]\r\n");
        return 0;
    }
    if (expected) {
        session_print("e-[Load is not done]\r\n");
        return 0;
    }
    uint32_t tokens = session_encode_prompt();
    if (tokens == 0) session_print("e-[No prompt: db load first]\r\n");
    if (tokens < edge_model.context) return tokens;
    session_print("e-[Prompt fills the context]\r\n");
    return 0;
}

static void infer(void) {
    const char *word = next_word();
    int32_t times = word ? number(word) : 1;
    if (times <= 0) {
        session_print("e-[Inference iterations must be >0]\r\n");
        return;
    }
    word = word ? next_word() : 0;
    int32_t warmup = word ? number(word) : WARMUP;
    if (warmup < 0) {
        session_print("e-[Inference warmup must be >=0]\r\n");
        return;
    }
    uint32_t tokens = prepare_prompt();
    if (tokens == 0) return;
    session_say("m-warmup-start-", (uint32_t)warmup, "\r\n");
    int finished = repeat(warmup, tokens);
    if (finished) {
        session_say("m-warmup-done\r\nm-infer-start-", (uint32_t)times, "\r\n");
        timestamp();
        finished = repeat(times, tokens);
    }
    if (!finished) {
        session_print("e-[Interrupted]\r\n");
        return;
    }
    timestamp();
    session_print("m-infer-done\r\n");
    results();
}

static void name(void) {
    session_print("m-name-dut-[");
    session_print(port_name);
    session_print("]\r\n");
}

static const struct {
    const char *word;
    void (*run)(void);
} commands[] = {
    {"name", name}, {"profile", profile}, {"timestamp", timestamp}, {"help", help},
    {"db", db},     {"infer", infer},     {"results", results},
};

static void execute(const char *word) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (same(word, commands[i].word)) {
            commands[i].run();
            return;
        }
    }
    session_print("e-[Unknown command: ");
    print_word(word, COMMAND_BYTES);
    session_print("]\r\n");
}

static edge_mode end_of_command(void) {
    edge_mode next = MODE_LINES;
    if (length > COMMAND_BYTES) {
        session_print("e-[Command is longer than 80 bytes]\r\n");
    } else {
        command[length] = 0;
        words = command;
        const char *word = next_word();
        if (word && same(word, "frames")) {
            next = frames_enter();
        } else if (word) {
            execute(word);
        }
    }
    length = 0;
    lines_ready();
    return next;
}

edge_mode lines_byte(int byte) {
    if (byte == 0 || byte == PORT_BREAK) {
        length = 0;
    } else if (byte == '%') {
        return end_of_command();
    } else if (byte == '\r' || byte == '\n') {
        if (length == 0) {
            expected = 0; /* the chat's prompts go where db was loading */
            return chat_enter();
        }
        length = 0;
        session_print("e-[Commands end with %, a lone Enter is for chat]\r\n");
        lines_ready();
    } else if (length <= COMMAND_BYTES) {
        if (length < COMMAND_BYTES) command[length] = (char)byte;
        length++;
    }
    return MODE_LINES;
}
