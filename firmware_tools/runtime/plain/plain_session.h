/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* A plain model between requests: its inputs lie in edge_inputs, its outputs in the arena. */
#ifndef EDGE_PLAIN_SESSION_H
#define EDGE_PLAIN_SESSION_H

#include "session.h"

extern int plain_has_outputs; /* those in the arena are of an inference */

/* One inference, its gate high, of the inputs as they were given; returns ticks, which are of edge_invoke alone. Unless it
 * keeps the state of the one before, it begins with that of the start. */
uint64_t plain_infer(int keeps_state);

#endif
