/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the generated model.c gives the runtime. */
#ifndef EDGE_MODEL_H
#define EDGE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_NO_TOKEN 0xFFFFFFFFu

typedef struct {
    uint32_t vocab_size;         /* logits a step leaves in edge_logits */
    uint32_t context;            /* positions the KV cache holds */
    uint32_t bos_id;             /* put before a text prompt; EDGE_NO_TOKEN where the model has none */
    const uint32_t *stop_ids;    /* a sampled token among these ends the text */
    size_t stop_count;
    const char *before, *after;  /* template around a text prompt, zero-terminated UTF-8 */
    const char *name;            /* the card's name; escaped by the compiler, at most 40 bytes, printable ASCII */
    const char *sha256;          /* model.sha256, 64 hex digits */
    const char *info;            /* JSON for the frame HELLO, without what only the running board knows */
} edge_facts;

extern const edge_facts edge_model;
extern float *const edge_logits; /* float32[vocab_size]; valid until the next step, wanted by it or not */

/* Computes one token at one position (0-based; positions below it must have been computed since start or rewind),
 * writes its keys and values into the KV cache, and where want_logits is not 0 leaves the logits in edge_logits. */
void edge_step(uint32_t token, uint32_t position, int want_logits);

#endif
