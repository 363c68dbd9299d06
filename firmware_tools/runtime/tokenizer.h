/* The model's tokenizer on the device; the tables come from vocabulary.py by way of the generated vocabulary.c. */
#ifndef EDGE_TOKENIZER_H
#define EDGE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

extern const int edge_can_encode; /* 0: the tokenizer is of a kind the device only decodes */

/* Bytes of one token; *length receives their number. An id outside the vocabulary gives length 0. */
const uint8_t *edge_piece(uint32_t id, size_t *length);

/* Encodes count bytes of text (any bytes; what is not UTF-8 goes by byte tokens), without BOS, as the host does.
 * Writes at most capacity ids and returns how many the text needs (more than capacity: ids is not valid). The
 * caller gives the space: capacity >= count + 1 is always enough, and no other memory is used. */
size_t edge_encode(const uint8_t *text, size_t count, uint16_t *ids, size_t capacity);

#endif
