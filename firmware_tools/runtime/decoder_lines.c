/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What infer and results are for a language model. */
#include "decoder.h"
#include "exp.h"
#include "lines.h"
#include "model.h"
#include "port.h"
#include "sampler.h"
#include "tokenizer.h"

#define RESULTS 5

static uint32_t prompt_tokens; /* of the prompt that infer repeats */

/* Three digits behind the point. */
static void print_probability(float p) {
    char digits[20];
    uint32_t thousandths = p >= 0.0f && p <= 1.0f ? (uint32_t)(p * 1000.0f + 0.5f) : 0;
    session_digits(1000u + thousandths, digits);
    uint8_t text[5] = {(uint8_t)(digits[0] - 1), '.', (uint8_t)digits[1], (uint8_t)digits[2], (uint8_t)digits[3]};
    port_write(text, sizeof text);
}

/* Once in the image, where edge_exp would be inlined at every call. */
__attribute__((noinline)) static float power(float x) {
    return edge_exp(x);
}

/* The index of the largest logit that comes after `after` in order (larger first, then lower index). */
static uint32_t next_largest(uint32_t after) {
    uint32_t best = EDGE_NO_TOKEN;
    for (uint32_t i = 0; i < edge_model.vocab_size; i++) {
        float x = session_logits()[i];
        if (after != EDGE_NO_TOKEN && !(x < session_logits()[after] || (x == session_logits()[after] && i > after))) continue;
        if (best == EDGE_NO_TOKEN ? x == x : x > session_logits()[best]) best = i;
    }
    return best;
}

/* The most probable tokens as id,probability,… : numbers and commas, which any host of this protocol can read. */
void lines_results(void) {
    if (!session_has_logits) {
        session_print("e-[No results: infer first]\r\n");
        return;
    }
    uint32_t id = next_largest(EDGE_NO_TOKEN);
    float largest = id == EDGE_NO_TOKEN ? 0.0f : session_logits()[id], sum = 0.0f;
    for (uint32_t i = 0; i < edge_model.vocab_size; i++) sum += power(session_logits()[i] - largest);
    session_print("m-results-[");
    for (int i = 0; i < RESULTS && id != EDGE_NO_TOKEN; i++, id = next_largest(id)) {
        session_say(i ? "," : "", id, ",");
        print_probability(power(session_logits()[id] - largest) / sum);
    }
    session_print("]\r\n");
}

int lines_prepare(void) {
    if (!edge_can_encode) {
        session_print("e-[This model's tokenizer runs on the host only: use frames]\r\n");
        return 0;
    }
    prompt_tokens = session_encode_prompt();
    if (prompt_tokens == 0) session_print("e-[No prompt: db load first]\r\n");
    if (prompt_tokens < edge_model.context) return prompt_tokens != 0;
    session_print("e-[Prompt fills the context]\r\n");
    return 0;
}

void lines_infer(void) {
    edge_sampler greedy = {0.0f, 1.0f, 0};
    session_prefill_prompt(prompt_tokens);
    session_decode(edge_sample(&greedy, session_logits(), edge_model.vocab_size), prompt_tokens);
}
