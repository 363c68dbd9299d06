/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Lines: commands that end with %, answered as MLPerf Tiny's and EEMBC's hosts expect; docs/link.md has the list. */
#ifndef EDGE_LINES_H
#define EDGE_LINES_H

#include "session.h"

void lines_boot(void);             /* the banner */
void lines_ready(void);            /* m-ready, which ends every answer */
edge_mode lines_byte(int byte);    /* takes a received byte or PORT_BREAK; returns the mode of the next */

#endif
