/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the three modes share: the model's state between requests, the prompt, the clock, and text in and out. */
#ifndef EDGE_SESSION_H
#define EDGE_SESSION_H

#include <stddef.h>
#include <stdint.h>

#ifndef SESSION_PROMPT_BYTES
#define SESSION_PROMPT_BYTES 512 /* of a text prompt, template included */
#endif

typedef enum { MODE_LINES, MODE_FRAMES, MODE_CHAT } edge_mode;

extern uint32_t session_filled;   /* positions 0..filled-1 hold what the host of the frames put there */
extern int session_has_logits;    /* session_logits() are those of a step */
extern size_t session_text_bytes; /* of the prompt's text, which db and chat write */
extern uint16_t session_ids[SESSION_PROMPT_BYTES + 2]; /* BOS, a token a byte, and one more that encoders may begin with */

/* Raises the gate and reads the clock; then the same the other way round, giving the ticks between. */
void session_start(unsigned gate);
uint64_t session_stop(unsigned gate);

const float *session_logits(void); /* float32[vocab_size] */

/* Computes tokens at positions from position on, the gate high; the last one's logits are kept. ids: little-endian numbers
 * of id_bytes (2 or 4) each. Returns ticks. */
uint64_t session_compute(unsigned gate, const void *ids, size_t id_bytes, uint32_t count, uint32_t position);

/* One decode step with logits, its gate high; returns ticks. */
uint64_t session_decode(uint32_t id, uint32_t position);

int session_is_stop(uint32_t id);

uint8_t *session_text(void);    /* where the prompt's text goes; the template lies around it */
size_t session_text_room(void); /* bytes that fit there */

/* Puts the template around session_text_bytes bytes of text and encodes it; returns the tokens, BOS included. */
uint32_t session_encode_prompt(void);

/* Computes those tokens from position 0 on; count is what session_encode_prompt returned. What frames had computed is
 * forgotten, so that a host notices that somebody else was here. */
uint64_t session_prefill_prompt(uint32_t count);

/* The next byte of a text mode, PORT_NOTHING or PORT_BREAK; LF is left out after CR, so that CRLF ends a line once. */
int session_read(void);

void session_print(const char *text);
void session_say(const char *before, uint64_t number, const char *after);
size_t session_digits(uint64_t number, char digits[20]); /* decimal, not terminated; returns how many */

#endif
