/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The requests that a language model takes. */
#include "answer.h"
#include "decoder.h"
#include "exp.h"
#include "frames.h"
#include "model.h"
#include "port.h"
#include "sampler.h"
#include "tokenizer.h"

enum { PREFILL = 2, FORWARD, GENERATE, LOGITS, ENCODE, ACTED = 14 };

#define SEED 1u
#define ACT 2u         /* a complete answer goes to on_answer */
#define STEP_BYTES 12u /* id u32, ticks u64 */

static edge_sampler sampler; /* seeded by the first GENERATE, unless that brings a seed of its own */

static int may_compute(uint32_t position, uint32_t count) {
    if (position > session_filled) {
        frames_error_number("the next position to compute, and the last allowed, is ", session_filled);
    } else if (position >= edge_model.context || count > edge_model.context - position) {
        frames_error_number("the context is full: positions end before ", edge_model.context);
    } else {
        return 1;
    }
    return 0;
}

static void compute(unsigned gate, const uint8_t *payload, size_t count) {
    uint32_t position = frames_u32(payload);
    const uint8_t *ids = payload + 4;
    if (!may_compute(position, (uint32_t)count)) return;
    for (size_t i = 0; i < count; i++) {
        if (frames_u32(ids + 4 * i) >= edge_model.vocab_size) {
            frames_error_number("no such token: ids end at ", edge_model.vocab_size - 1u);
            return;
        }
    }
    answer_begin();
    frames_put_u64(session_compute(gate, ids, 4, (uint32_t)count, position));
    session_filled = position + (uint32_t)count;
}

static void generate(const uint8_t *payload) {
    uint32_t count = payload[0] | (uint32_t)payload[1] << 8;
    float temperature = edge_bits_float(frames_u32(payload + 4)), top_p = edge_bits_float(frames_u32(payload + 8));
    if (session_filled == 0) {
        frames_error("nothing is computed yet: PREFILL or FORWARD first");
    } else if (count == 0 || count > FRAMES_REPLY_BYTES / STEP_BYTES) {
        frames_error_number("the count of one request is from 1 to ", FRAMES_REPLY_BYTES / STEP_BYTES);
    } else if (!(temperature >= 0.0f && temperature <= 1e6f && top_p > 0.0f && top_p <= 1.0f)) {
        frames_error("temperature is from 0 to 1e6, top_p above 0 and at most 1");
    } else {
        sampler.temperature = temperature;
        sampler.top_p = top_p;
        if (payload[2] & SEED || !sampler.state) /* without a seed ever given it is 0, as on the host */
            edge_seed(&sampler, payload[2] & SEED ? frames_u32(payload + 12) | (uint64_t)frames_u32(payload + 16) << 32 : 0);
        while (count-- && session_filled < edge_model.context) {
            uint32_t id = edge_sample(&sampler, session_logits(), edge_model.vocab_size);
            int stop = session_is_stop(id);
            frames_put_u32(id);
            frames_put_u64(stop ? 0 : session_decode(id, session_filled));
            if (stop) {
                if (payload[2] & ACT) answer_end(ANSWER_TO_HOST);
                return;
            }
            size_t bytes;
            const uint8_t *piece = edge_piece(id, &bytes);
            answer_add(piece, bytes);
            session_filled++;
        }
    }
}

static void logits(uint32_t first) {
    if (!session_has_logits) {
        frames_error("there are no logits yet: PREFILL or FORWARD first");
    } else if (first >= edge_model.vocab_size) {
        frames_error_number("logits end at ", edge_model.vocab_size - 1u);
    } else {
        for (; first < edge_model.vocab_size && frames_room() >= 4; first++)
            frames_put_u32(edge_float_bits(session_logits()[first]));
    }
}

static void encode(const uint8_t *text, size_t count) {
    size_t ids = edge_can_encode ? edge_encode(text, count, session_ids, SESSION_PROMPT_BYTES + 1) : 0;
    if (!edge_can_encode) {
        frames_error("this model's tokenizer runs on the host only");
    } else if (ids > FRAMES_REPLY_BYTES / 4) {
        frames_error_number("an answer has room for fewer tokens than the text has: ", (uint32_t)ids);
    } else {
        for (size_t i = 0; i < ids; i++) frames_put_u32(session_ids[i]);
    }
}

static void acted(void) {
    for (const char *c = answer_told(); *c; c++) frames_put((uint8_t)*c);
}

int frames_request(uint8_t kind, const uint8_t *payload, size_t count) {
    if (kind == PREFILL && count >= 8 && count % 4 == 0) {
        compute(PORT_GATE_PREFILL, payload, count / 4 - 1);
    } else if (kind == FORWARD && count == 8) {
        compute(PORT_GATE_DECODE, payload, 1);
    } else if (kind == GENERATE && count == 20) {
        generate(payload);
    } else if (kind == LOGITS && count == 4) {
        logits(frames_u32(payload));
    } else if (kind == ENCODE) {
        encode(payload, count);
    } else if (kind == ACTED && count == 0) {
        acted();
    } else {
        return 0;
    }
    return 1;
}
