/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What a model says as one text, and the hook that acts on it. */
#ifndef EDGE_ANSWER_H
#define EDGE_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#define ANSWER_BYTES 512     /* of the longest answer that anything is done about */
#define ANSWER_TOLD_BYTES 96 /* of what is told about that */

/* Called once for each complete answer (one that the model itself ended) of a chat, or of a host that asks for it
 * (GENERATE with flag 2). answer is length bytes, and a zero behind them. The one in answer.c is weak and does nothing:
 * C of one's own, or what `edge build --actions` makes of a file, takes its place. It may call the functions of port.h. */
void on_answer(const char *answer, size_t length);

/* For on_answer: tells whoever gave the prompt what has been done. Printable ASCII. */
void answer_tell(const char *text);

/* --- for the modes --- */

enum { ANSWER_TO_HOST, ANSWER_TO_PERSON };

void answer_begin(void);
void answer_add(const uint8_t *piece, size_t bytes);
void answer_end(int whom);           /* the text is complete */
const char *answer_told(void);       /* what on_answer told of the last answer; "" for nothing */

#endif
