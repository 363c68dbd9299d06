/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Waiting for hardware that may never answer, and what port_trouble says of it. A board's .c includes this once. */
#ifndef EDGE_WAIT_H
#define EDGE_WAIT_H

#include <stddef.h>
#include <stdint.h>

#include "port.h"

static char trouble[101]; /* what port.h allows, and the end */
static size_t trouble_length;

/* Adds to port_trouble that something did not start: "the crystal". What has no room is left out. */
static void trouble_note(const char *what) {
    static const char between[] = ", ";
    size_t at = trouble_length;
    if (at)
        for (size_t i = 0; between[i] && at < sizeof trouble - 1; i++) trouble[at++] = between[i];
    for (size_t i = 0; what[i]; i++) {
        if (at == sizeof trouble - 1) {
            trouble[trouble_length] = 0;
            return;
        }
        trouble[at++] = what[i];
    }
    trouble[at] = 0;
    trouble_length = at;
}

/* Waits until (*where & mask) == value, for at most so many turns, each of which takes 5 cycles or more. Returns
 * whether it came to that; if not, what goes into port_trouble. */
__attribute__((noinline)) static int wait_until(const volatile uint32_t *where, uint32_t mask, uint32_t value,
                                                uint32_t turns, const char *what) {
    for (; turns; turns--)
        if ((*where & mask) == value) return 1;
    trouble_note(what);
    return 0;
}

const char *port_trouble(void) {
    return trouble;
}

#endif
