/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The firmware: every received byte goes to the mode it is in, which names the next one. */
#include "chat.h"
#include "frames.h"
#include "lines.h"
#include "port.h"

int main(void) {
    edge_mode mode = MODE_LINES;
    port_init();
    lines_boot();
    for (;;) {
        int byte = mode == MODE_FRAMES ? port_read() : session_read();
        /* asked before the byte is used: it may be the first after a long silence */
        if (mode == MODE_FRAMES && frames_expired()) mode = MODE_LINES;
        if (byte == PORT_NOTHING) {
            port_idle();
        } else if (mode == MODE_FRAMES) {
            mode = frames_byte(byte);
        } else if (mode == MODE_CHAT) {
            mode = chat_byte(byte);
        } else {
            mode = lines_byte(byte);
        }
    }
}
