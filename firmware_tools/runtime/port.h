/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What a board gives the runtime: boards/X.c implements these functions, and nothing else is board-specific. */
#ifndef EDGE_PORT_H
#define EDGE_PORT_H

#include <stddef.h>
#include <stdint.h>

#define PORT_NOTHING (-1) /* no byte is waiting */
#define PORT_BREAK (-2)   /* the host sent a BREAK */

enum { PORT_GATE_PREFILL = 0, PORT_GATE_DECODE = 1 };

extern const char port_name[]; /* for people and protocols; an emulated board's begins with "EMULATED " */

void port_init(void);                                /* clocks, UART, cycle counter, trigger pins */
int port_read(void);                                 /* the next received byte 0..255, PORT_NOTHING or PORT_BREAK */
void port_write(const uint8_t *bytes, size_t count); /* returns when all bytes are handed to the UART */
void port_idle(void);                                /* nothing to read: sleep until there may be; may return at once */
uint64_t port_ticks(void);                           /* cycle counter, extended to 64 bits */
uint32_t port_millis(void);                          /* wall time for time-outs, wraps */
uint32_t port_ticks_hz(void);                        /* ticks a second */
void port_gate(unsigned gate, int high);             /* trigger pin: high while a prefill or decode step computes */
size_t port_stack_bytes(void);                       /* the deepest the stack has been since start; 0: not known */

#endif
