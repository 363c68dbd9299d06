/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What all modes and all kinds of models share: the clock, text in and out, and what a kind of model tells the modes. */
#ifndef EDGE_SESSION_H
#define EDGE_SESSION_H

#include <stddef.h>
#include <stdint.h>

typedef enum { MODE_LINES, MODE_FRAMES, MODE_CHAT } edge_mode;

/* Raises the gate and reads the clock; then the same the other way round, giving the ticks between. */
void session_start(unsigned gate);
uint64_t session_stop(unsigned gate);

/* The next byte of a text mode, PORT_NOTHING or PORT_BREAK; LF is left out after CR, so that CRLF ends a line once. */
int session_read(void);

void session_print(const char *text);
void session_say(const char *before, uint64_t number, const char *after);
size_t session_digits(uint64_t number, char digits[20]); /* decimal, not terminated; returns how many */
size_t session_length(const char *text);

extern size_t session_loaded; /* bytes of the buffer that hold what db loaded or chat was given */

/* --- what decoder.c or plain/plain.c says of the model --- */

const char *session_name(void);   /* for people; printable ASCII */
const char *session_info(void);   /* JSON for HELLO */
uint8_t *session_buffer(void);    /* where db puts a prompt, or a plain model's inputs */
size_t session_buffer_room(void); /* bytes that fit there */

#endif
