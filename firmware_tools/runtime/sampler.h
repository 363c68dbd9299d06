/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Chooses the next token from logits; equal to firmware_tools/sampler.py. */
#ifndef EDGE_SAMPLER_H
#define EDGE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    float temperature; /* 0: greedy, the lowest id of the largest logit */
    float top_p;       /* 1: all tokens; else the smallest set whose probability reaches it */
    uint64_t state;    /* of the random generator; edge_seed sets it */
} edge_sampler;

void edge_seed(edge_sampler *sampler, uint64_t seed);

/* The id of the chosen token. logits (float32[count]) is left as it was: more than one call may follow a step. */
uint32_t edge_sample(edge_sampler *sampler, const float *logits, size_t count);

#endif
