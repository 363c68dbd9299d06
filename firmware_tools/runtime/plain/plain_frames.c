/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The requests that a plain model takes. */
#include "frames.h"
#include "plain.h"
#include "plain_session.h"

enum { INPUT = 8, INVOKE, OUTPUT };

#define KEEP_STATE 1u

static void take(uint32_t offset, const uint8_t *bytes, size_t count) {
    if (offset > edge_model.input_bytes || count > edge_model.input_bytes - offset) {
        frames_error_number("the inputs end at byte ", edge_model.input_bytes);
    } else {
        __builtin_memcpy(edge_inputs + offset, bytes, count);
    }
}

static void give(uint32_t index, uint32_t offset) {
    if (!plain_has_outputs) {
        frames_error("there are no outputs yet: INVOKE first");
    } else if (index >= edge_model.output_count) {
        frames_error_number("outputs end before ", edge_model.output_count);
    } else if (offset >= edge_model.outputs[index].size_bytes) {
        frames_error_number("this output ends at byte ", edge_model.outputs[index].size_bytes);
    } else {
        const edge_tensor *output = edge_model.outputs + index;
        const uint8_t *at = edge_arena + output->offset_bytes;
        for (; offset < output->size_bytes && frames_room(); offset++) frames_put(at[offset]);
    }
}

int frames_request(uint8_t kind, const uint8_t *payload, size_t count) {
    if (kind == INPUT && count > 4) {
        take(frames_u32(payload), payload + 4, count - 4);
    } else if (kind == INVOKE && count == 4) {
        frames_put_u64(plain_infer(frames_u32(payload) & KEEP_STATE));
    } else if (kind == OUTPUT && count == 8) {
        give(frames_u32(payload), frames_u32(payload + 4));
    } else {
        return 0;
    }
    return 1;
}
