/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "session.h"

#include "port.h"

size_t session_loaded;
static uint64_t started;

void session_start(unsigned gate) {
    port_gate(gate, 1);
    started = port_ticks();
}

uint64_t session_stop(unsigned gate) {
    uint64_t ticks = port_ticks() - started;
    port_gate(gate, 0);
    return ticks;
}

size_t session_length(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

int session_read(void) {
    static int previous;
    int byte = port_read();
    if (byte == '\n' && previous == '\r') byte = port_read();
    if (byte != PORT_NOTHING) previous = byte;
    return byte;
}

void session_print(const char *text) {
    port_write((const uint8_t *)text, session_length(text));
}

size_t session_digits(uint64_t number, char digits[20]) {
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10u);
        number /= 10u;
    } while (number);
    for (size_t i = 0; i < count / 2; i++) {
        char swapped = digits[i];
        digits[i] = digits[count - 1 - i];
        digits[count - 1 - i] = swapped;
    }
    return count;
}

void session_say(const char *before, uint64_t number, const char *after) {
    char digits[20];
    session_print(before);
    port_write((const uint8_t *)digits, session_digits(number, digits));
    session_print(after);
}
