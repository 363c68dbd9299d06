/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Temperature and nucleus sampling without memory; firmware_tools/sampler.py explains it and computes the same bits. */
#include "sampler.h"

#include <float.h>

#include "exp.h"

#define COOLEST 0x1p-20f /* below it: greedy */
#define HOTTEST 0x1p20f  /* above it: as it, which is uniform */

/* The tokens that may still be chosen: those before the token `bound` in falling order of logits; all at bound ==
 * count. A logit that is NaN or -inf is never among them. */
typedef struct {
    const float *logits;
    size_t count, bound;
    float largest, inverse_temperature;
} candidates;

void edge_seed(edge_sampler *sampler, uint64_t seed) {
    uint64_t z = seed + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    sampler->state = z != 0 ? z : 1; /* the generator stays at 0 for ever */
}

/* A multiple of 2^-24 in [0, 1). */
static float uniform(edge_sampler *sampler) {
    uint64_t x = sampler->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sampler->state = x;
    return (float)(uint32_t)((x * 0x2545F4914F6CDD1Du) >> 40) * 0x1p-24f;
}

/* The lowest id of the largest logit; 0 where every logit is NaN or -inf. */
static size_t greatest(const float *logits, size_t count) {
    size_t best = 0;
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(logits[i] >= -FLT_MAX) || (found && !(logits[i] > logits[best]))) continue;
        best = i;
        found = 1;
    }
    return best;
}

/* exp((logit - largest) / temperature) of token i, or 0 where it is no candidate. */
static float weight(const candidates *from, size_t i) {
    float logit = from->logits[i];
    if (!(logit >= -FLT_MAX)) return 0;
    if (from->bound < from->count) {
        float bound = from->logits[from->bound];
        if (logit < bound || (logit == bound && i >= from->bound)) return 0;
    }
    return edge_exp((logit - from->largest) * from->inverse_temperature);
}

/* Adds the weights of the candidates in the order of their ids, up to and with the first at which the sum exceeds point.
 * Returns that candidate, or the last where none does; *sum receives the sum. Inlined twice it would double the code. */
static __attribute__((noinline)) size_t walk(const candidates *from, float point, float *sum) {
    float total = 0;
    size_t last = 0;
    for (size_t i = 0; i < from->count && !(total > point); i++) {
        float here = weight(from, i);
        if (here <= 0) continue;
        total += here;
        last = i;
    }
    *sum = total;
    return last;
}

uint32_t edge_sample(edge_sampler *sampler, const float *logits, size_t count) {
    size_t best = greatest(logits, count);
    int all = !(sampler->top_p < 1);
    /* written so that NaN is greedy, too, but a top_p of NaN is 1; and nothing can be weighed against +inf */
    if (!(sampler->temperature >= COOLEST) || sampler->top_p <= 0 || count == 0) return (uint32_t)best;
    if (!(logits[best] >= -FLT_MAX && logits[best] <= FLT_MAX)) return (uint32_t)best;
    float temperature = sampler->temperature < HOTTEST ? sampler->temperature : HOTTEST;
    candidates from = {logits, count, count, logits[best], 1 / temperature};
    float left, reached;
    walk(&from, FLT_MAX, &left);
    float wanted = sampler->top_p * left;
    for (;;) {
        size_t chosen = walk(&from, uniform(sampler) * left, &reached);
        if (all) return (uint32_t)chosen;
        from.bound = chosen;
        walk(&from, FLT_MAX, &left);
        if (left < wanted || left <= 0) return (uint32_t)chosen;
    }
}
