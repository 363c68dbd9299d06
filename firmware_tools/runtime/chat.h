/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Chat: lines of text from a terminal, answered by the model; for people. */
#ifndef EDGE_CHAT_H
#define EDGE_CHAT_H

#include "session.h"

edge_mode chat_enter(void);     /* the first prompt; stays in lines where the device cannot encode text */
edge_mode chat_byte(int byte);  /* takes a received byte or PORT_BREAK; returns the mode of the next */

#endif
