/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "plain_session.h"

#include "chat.h"
#include "lines.h"
#include "plain.h"
#include "port.h"

int plain_has_outputs;

const char *session_name(void) { return edge_model.name; }
const char *session_info(void) { return edge_model.info; }
uint8_t *session_buffer(void) { return edge_inputs; }
size_t session_buffer_room(void) { return edge_model.input_bytes; }

uint64_t plain_infer(int keeps_state) {
    const uint8_t *from = edge_inputs;
    for (uint32_t i = 0; i < edge_model.input_count; i++) {
        const edge_tensor *input = edge_model.inputs + i;
        __builtin_memcpy(edge_arena + input->offset_bytes, from, input->size_bytes);
        from += input->size_bytes;
    }
    if (!keeps_state) edge_forget(edge_state);
    session_start(PORT_GATE_DECODE);
    edge_invoke(edge_arena, edge_state);
    plain_has_outputs = 1;
    return session_stop(PORT_GATE_DECODE);
}

edge_mode chat_enter(void) {
    session_print("e-[No chat: this model takes no text; commands end with %]\r\n");
    lines_ready();
    return MODE_LINES;
}

edge_mode chat_byte(int byte) {
    (void)byte;
    return MODE_LINES;
}
