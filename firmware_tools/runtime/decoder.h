/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* A language model between requests: positions computed so far, logits, the prompt. */
#ifndef EDGE_DECODER_H
#define EDGE_DECODER_H

#include "session.h"

#ifndef SESSION_PROMPT_BYTES
#define SESSION_PROMPT_BYTES 512 /* of a text prompt, template included */
#endif

extern uint32_t session_filled;   /* positions 0..filled-1 hold what the host of the frames put there */
extern int session_has_logits;    /* session_logits() are those of a step */
extern uint16_t session_ids[SESSION_PROMPT_BYTES + 2]; /* BOS, a token a byte, and one more that encoders may begin with */

const float *session_logits(void); /* float32[vocab_size] */

/* Computes tokens at positions from position on, the gate high; the last one's logits are kept. ids: little-endian numbers
 * of id_bytes (2 or 4) each. Returns ticks. */
uint64_t session_compute(unsigned gate, const void *ids, size_t id_bytes, uint32_t count, uint32_t position);

/* One decode step with logits, its gate high; returns ticks. */
uint64_t session_decode(uint32_t id, uint32_t position);

int session_is_stop(uint32_t id);

/* Puts the template around session_loaded bytes of text in the buffer and encodes it; returns the tokens, BOS included. */
uint32_t session_encode_prompt(void);

/* Computes those tokens from position 0 on; count is what session_encode_prompt returned. What frames had computed is
 * forgotten, so that a host notices that somebody else was here. */
uint64_t session_prefill_prompt(uint32_t count);

#endif
