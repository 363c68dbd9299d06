/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "lines.h"

#include "chat.h"
#include "frames.h"
#include "port.h"

#define COMMAND_BYTES 80 /* as EEMBC's EE_CMD_SIZE; the % not counted */
#define BUFFER_LINE_BYTES 8
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
    session_print(session_name());
    session_print("]\r\nm-ext-[edge 1 frames cobs crc16]\r\n");
}

static void help(void) {
    session_print(VERSION
                  "\r\n\r\n"
                  "name, profile, timestamp, help, results\r\n"
                  "infer N [W=10] : after W to warm up\r\n"
                  "db load N, db HH.., db print : input\r\n"
                  "frames : for programs\r\n"
                  "Each ends with %. Enter: chat.\r\n");
}

static void db_load(void) {
    const char *word = next_word();
    int32_t bytes = word ? number(word) : 0;
    size_t room = session_buffer_room();
    expected = 0;
    session_loaded = 0;
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
        if (session_loaded >= expected) {
            session_print("e-[Command 'db' needs 'db load' first]\r\n");
            return;
        }
        session_buffer()[session_loaded++] = (uint8_t)(high << 4 | low);
        if (session_loaded == expected) {
            expected = 0;
            session_print("m-load-done\r\n");
            return; /* as EEMBC's: digits that are left over are disregarded */
        }
    }
}

static void db_print(void) {
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < session_loaded; i++) {
        uint8_t byte = session_buffer()[i];
        uint8_t text[3] = {(uint8_t)hex[byte >> 4], (uint8_t)hex[byte & 15], '-'};
        int last = (i + 1) % BUFFER_LINE_BYTES == 0 || i + 1 == session_loaded;
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

/* Returns 0 where the host interrupts by NUL or BREAK; other bytes are not expected here, and lost. */
static int repeat(int32_t times) {
    while (times-- > 0) {
        lines_infer();
        for (int byte; (byte = port_read()) != PORT_NOTHING;)
            if (byte == 0 || byte == PORT_BREAK) return 0;
    }
    return 1;
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
    if (expected) {
        session_print("e-[Load is not done]\r\n");
        return;
    }
    if (!lines_prepare()) return;
    session_say("m-warmup-start-", (uint32_t)warmup, "\r\n");
    int finished = repeat(warmup);
    if (finished) {
        session_say("m-warmup-done\r\nm-infer-start-", (uint32_t)times, "\r\n");
        timestamp();
        finished = repeat(times);
    }
    if (!finished) {
        session_print("e-[Interrupted]\r\n");
        return;
    }
    timestamp();
    session_print("m-infer-done\r\n");
    lines_results();
}

static void name(void) {
    session_print("m-name-dut-[");
    session_print(port_name());
    session_print("]\r\n");
}

static const struct {
    const char *word;
    void (*run)(void);
} commands[] = {
    {"name", name}, {"profile", profile}, {"timestamp", timestamp}, {"help", help},
    {"db", db},     {"infer", infer},     {"results", lines_results},
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
