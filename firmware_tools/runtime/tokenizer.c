/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Byte-pair encoding in the caller's array, and pieces. */
#include "tokenizer.h"

#define NONE 0x10000 /* a rank that no merge has: ranks are 16 bits */

const uint8_t *edge_piece(uint32_t id, size_t *length) {
    *length = 0;
    if (id >= edge_vocabulary.piece_count) return edge_vocabulary.piece_bytes;
    uint32_t start = edge_vocabulary.piece_starts[id / EDGE_PIECE_BLOCK];
    for (uint32_t i = id - id % EDGE_PIECE_BLOCK; i < id; i++) start += edge_vocabulary.piece_lengths[i];
    *length = edge_vocabulary.piece_lengths[id];
    return edge_vocabulary.piece_bytes + start;
}

/* The index of key in an ascending table of count numbers; count where it is not there. */
static uint32_t find(const uint32_t *table, uint32_t count, uint32_t key) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (table[middle] < key) low = middle + 1;
        else high = middle;
    }
    return low < count && table[low] == key ? low : count;
}

/* The bytes of the code point that text begins with; 0 where it begins with none in UTF-8's shortest form (RFC 3629).
 * Surrogates and what lies past U+10FFFF pass: no token stands for them, so that they go by byte tokens all the same. */
static size_t code_point(const uint8_t *text, size_t count, uint32_t *code) {
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t value = text[0];
    *code = value;
    if (value < 0x80) return 1;
    size_t length = value < 0xE0 ? 2 : value < 0xF0 ? 3 : 4;
    if (value < 0xC0 || value >= 0xF8 || length > count) return 0;
    value &= 0x7Fu >> length;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (text[i] & 0x3Fu);
    }
    *code = value;
    return value >= lowest[length] ? length : 0;
}

/* The symbols before merging: the prefix, then a token for each character, or where there is none for each byte.
 * Returns their number, and writes those that fit. */
static size_t symbols(const uint8_t *text, size_t count, uint16_t *ids, size_t capacity) {
    size_t needed = 0;
    if (count > 0 && edge_vocabulary.prefix != EDGE_NO_PREFIX) {
        if (needed < capacity) ids[needed] = (uint16_t)edge_vocabulary.prefix;
        needed++;
    }
    for (size_t at = 0; at < count;) {
        uint32_t code, found = edge_vocabulary.character_count;
        size_t length = code_point(text + at, count - at, &code);
        if (length > 0) found = find(edge_vocabulary.character_codes, found, code);
        if (found < edge_vocabulary.character_count) {
            if (needed < capacity) ids[needed] = edge_vocabulary.character_ids[found];
            needed++;
            at += length;
            continue;
        }
        for (size_t end = at + (length > 0 ? length : 1); at < end; at++) {
            if (needed < capacity) ids[needed] = edge_vocabulary.byte_ids[text[at]];
            needed++;
        }
    }
    return needed;
}

static int32_t rank(uint16_t left, uint16_t right, uint16_t *result) {
    uint32_t found = find(edge_vocabulary.merge_pairs, edge_vocabulary.merge_count, (uint32_t)left << 16 | right);
    if (found == edge_vocabulary.merge_count) return NONE;
    *result = edge_vocabulary.merge_results[found];
    return edge_vocabulary.merge_ranks[found];
}

/* One pass over count > 0 symbols: merges, from the left, the pairs of rank target, the lowest there is (-1: none). It
 * stops merging where a merge makes a pair of a lower rank, whose turn it then is: the order is that of taking the
 * lowest pair, leftmost first, one at a time. Returns the symbols left; *lowest receives the lowest rank among them. */
static size_t merge_pass(uint16_t *ids, size_t count, int32_t target, int32_t *lowest) {
    size_t last = 0;        /* of the symbols done */
    int32_t before = NONE;  /* rank of the pair that ends at last */
    *lowest = NONE;
    for (size_t next = 1; next < count; next++) {
        uint16_t result = 0;
        int32_t pair = rank(ids[last], ids[next], &result);
        if (pair == target) {
            ids[last] = result;
            before = last > 0 ? rank(ids[last - 1], ids[last], &result) : NONE;
            if (before < target) target = -1;
            continue;
        }
        if (pair < target) target = -1;
        if (before < *lowest) *lowest = before;
        before = pair;
        ids[++last] = ids[next];
    }
    if (before < *lowest) *lowest = before;
    return last + 1;
}

size_t edge_encode(const uint8_t *text, size_t count, uint16_t *ids, size_t capacity) {
    if (!edge_can_encode) return 0;
    size_t length = symbols(text, count, ids, capacity);
    if (length == 0 || length > capacity) return length;
    int32_t target = -1;
    do length = merge_pass(ids, length, target, &target);
    while (target != NONE);
    return length;
}
