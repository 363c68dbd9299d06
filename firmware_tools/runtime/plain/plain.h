/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the generated model.c of a plain model gives the runtime, or whoever has a firmware of his own. */
#ifndef EDGE_PLAIN_H
#define EDGE_PLAIN_H

#include <stddef.h>
#include <stdint.h>

typedef enum { EDGE_FLOAT32, EDGE_INT8, EDGE_UINT8, EDGE_INT16, EDGE_INT32, EDGE_INT64, EDGE_BOOL } edge_kind;

/* An input or output: size_bytes at offset_bytes of the arena; real = scale * (stored - zero_point) where scale is not 0. */
typedef struct {
    uint32_t offset_bytes, size_bytes;
    edge_kind kind;
    float scale;
    int32_t zero_point;
} edge_tensor;

typedef struct {
    const edge_tensor *inputs, *outputs; /* in the order of the model file */
    uint32_t input_count, output_count;
    uint32_t input_bytes;                /* of all inputs */
    const char *name;                    /* escaped by the compiler, at most 40 bytes, printable ASCII */
    const char *info;                    /* JSON for the frame HELLO, without what only the running board knows */
} edge_facts;

extern const edge_facts edge_model;

/* One inference: inputs are read from the arena, where an inference overwrites them, and outputs lie there until the next
 * inputs are written. Arena and state are the caller's, 16-byte aligned; the state is all that lives from one inference to
 * the next, and edge_forget makes it that of the start. */
void edge_invoke(uint8_t *arena, uint8_t *state);
void edge_forget(uint8_t *state);

/* In firmware: generated, too. */
extern uint8_t edge_arena[], edge_state[], edge_inputs[];

#endif
