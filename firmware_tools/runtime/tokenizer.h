/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The model's tokenizer on the device; the tables come from vocabulary.py by way of the generated vocabulary.c. */
#ifndef EDGE_TOKENIZER_H
#define EDGE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

extern const int edge_can_encode; /* 0: the tokenizer is of a kind the device only decodes */

/* Bytes of one token; *length receives their number. A special token, and an id outside the vocabulary, has none. */
const uint8_t *edge_piece(uint32_t id, size_t *length);

/* Encodes count bytes of text (any bytes; what is not UTF-8 goes by byte tokens), without BOS, as the host does.
 * Returns how many ids it wrote. More than capacity means that nothing usable was written: it is then the number of
 * symbols the text has before merging, and a capacity of that many is enough. The caller gives the space, which the
 * merging works in: capacity >= count + 1 is always enough, and no other memory is used. Without edge_can_encode: 0. */
size_t edge_encode(const uint8_t *text, size_t count, uint16_t *ids, size_t capacity);

/* --- the tables, for tokenizer.c alone --- */

#define EDGE_NO_PREFIX 0xFFFFFFFFu
#define EDGE_PIECE_BLOCK 16 /* piece_starts has an entry for every so many pieces */

typedef struct {
    uint32_t piece_count, character_count, merge_count;
    uint32_t prefix;                 /* id of the symbol put before a text, or EDGE_NO_PREFIX */
    const uint32_t *piece_starts;    /* offset in piece_bytes of every EDGE_PIECE_BLOCKth piece */
    const uint8_t *piece_lengths;    /* of every piece */
    const uint8_t *piece_bytes;      /* all pieces, one after the other */
    const uint32_t *character_codes; /* code points that are tokens, ascending */
    const uint16_t *character_ids;   /* their ids */
    const uint16_t *byte_ids;        /* 256 */
    const uint32_t *merge_pairs;     /* left << 16 | right, ascending */
    const uint16_t *merge_ranks;     /* 0 merges first; no two are equal */
    const uint16_t *merge_results;
} edge_vocabulary_tables;

extern const edge_vocabulary_tables edge_vocabulary;

#endif
