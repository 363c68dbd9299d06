/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the generated model.c gives the runtime. */
#ifndef EDGE_MODEL_H
#define EDGE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_NO_TOKEN 0xFFFFFFFFu
#define EDGE_MOST_ROWS 4u

typedef struct {
    uint32_t vocab_size;         /* logits of a step */
    uint32_t context;            /* positions the KV cache holds */
    uint32_t rows;               /* tokens that one step takes at most, up to EDGE_MOST_ROWS */
    uint32_t logits_offset_bytes; /* where in the arena a step leaves the logits */
    uint32_t bos_id;             /* put before a text prompt; EDGE_NO_TOKEN where the model has none */
    const uint32_t *stop_ids;    /* a sampled token among these ends the text */
    size_t stop_count;
    const char *before, *after;  /* template around a text prompt, zero-terminated UTF-8 */
    const char *name;            /* the card's name; escaped by the compiler, at most 40 bytes, printable ASCII */
    const char *sha256;          /* model.sha256, 64 hex digits */
    const char *info;            /* JSON for the frame HELLO, without what only the running board knows */
} edge_facts;

extern const edge_facts edge_model;
/* Computes count tokens (1 to edge_model.rows), the first at position (0-based; positions below it must have been computed
 * since start or rewind), and writes their keys and values into the KV cache. Where want_logits is not 0 the last token's
 * logits, float32[vocab_size], lie logits_offset_bytes from the start of the arena until the next step. Arena and KV cache
 * are the caller's, 16-byte aligned; what the cache holds is all that lives from step to step. */
void edge_step(uint8_t *arena, uint8_t *kv_cache, const uint32_t *tokens, uint32_t count, uint32_t position,
               int want_logits);

/* Both in firmware: generated, too. */
extern uint8_t edge_arena[], edge_kv_cache[];

#endif
