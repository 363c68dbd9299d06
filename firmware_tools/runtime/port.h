/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What a board gives the runtime: boards/X.c implements these functions, and nothing else is board-specific. */
#ifndef EDGE_PORT_H
#define EDGE_PORT_H

#include <stddef.h>
#include <stdint.h>

#define PORT_NOTHING (-1) /* no byte is waiting */
#define PORT_BREAK (-2)   /* the host sent a BREAK */

enum { PORT_GATE_PREFILL = 0, PORT_GATE_DECODE = 1 };

/* For people and protocols. Begins with "EMULATED " where the chip is none: an image for silicon finds that out by what
 * the chip says of itself (an identification register), since the same image runs in emulators. */
const char *port_name(void);

/* What did not start within its time, so that the board goes on without (a crystal, a PLL: then at the reset clock);
 * "" where all is well. Printable ASCII without " and \, at most 100 bytes. */
const char *port_trouble(void);

/* Before memory is set: what makes copying from flash fast (clocks, wait states) or switches RAM on. No variable has its
 * value yet, and none keeps what is written to it. A board that needs nothing has none. */
void port_start(void);

void port_init(void);                                /* clocks, UART, cycle counter, trigger pins; every wait is bounded */
int port_read(void);                                 /* the next received byte 0..255, PORT_NOTHING or PORT_BREAK */
void port_write(const uint8_t *bytes, size_t count); /* returns when all bytes are handed to the UART */
void port_idle(void);                                /* nothing to read: sleep until there may be; may return at once */
uint64_t port_ticks(void);                           /* cycle counter, extended to 64 bits */
uint32_t port_millis(void);                          /* wall time for time-outs, wraps */
uint32_t port_ticks_hz(void);                        /* ticks a second: of the clock that really runs */
void port_gate(unsigned gate, int high);             /* trigger pin: high while a prefill or decode step computes */
void port_pin(unsigned pin, int high);               /* makes a pin an output; numbers are those of the board's `pins` */

/* --- startup.c */

size_t port_stack_bytes(void);                       /* the deepest the stack has been since start; 0: not known */
size_t port_image(const uint8_t **start);            /* bytes of the whole image in flash; 0: not known */
const char *port_weights_in(void);                   /* "flash" or "ram": where kernels read weights; "": not known */

/* --- generated (build.py) */

extern const char edge_image[]; /* the SHA-256, in hex, of all that went into the image */
extern const int edge_acts;     /* does this image's on_answer (answer.h) do anything? */

#endif
