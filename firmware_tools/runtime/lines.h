/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Lines: commands that end with %, answered as MLPerf Tiny's and EEMBC's hosts expect; docs/link.md has the list. */
#ifndef EDGE_LINES_H
#define EDGE_LINES_H

#include "session.h"

void lines_boot(void);             /* the banner */
void lines_ready(void);            /* m-ready, which ends every answer */
edge_mode lines_byte(int byte);    /* takes a received byte or PORT_BREAK; returns the mode of the next */

/* --- what decoder_lines.c or plain/plain_lines.c does for infer and results --- */

int lines_prepare(void);  /* 0 after saying why what is loaded cannot be run */
void lines_infer(void);   /* one inference of it */
void lines_results(void); /* the line m-results, or why there is none */

#endif
