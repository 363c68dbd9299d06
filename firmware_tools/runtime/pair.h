/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Work that two cores share. Boards with the feature `pair` implement two functions; kernels named so call edge_pair. */
#ifndef EDGE_PAIR_H
#define EDGE_PAIR_H

/* One half of the work, 0 or 1. The halves write nothing that the other reads or writes, and wait for nothing: both may
 * run at once, or one after the other in any order. Doing one again does no harm. */
typedef void edge_pair_work(void *argument, unsigned half);

/* Has the second core begin with half 1; returns whether it does. */
int edge_pair_begin(edge_pair_work *work, void *argument);

/* Waits for the second core; returns whether half 1 is done, and all that it wrote can be read. */
int edge_pair_end(void);

/* Does both halves. Not to be called by work. (Inline, so that the call graph tells whom work 0 calls.) */
static inline void edge_pair(edge_pair_work *work, void *argument) {
    int shared = edge_pair_begin(work, argument);
    work(argument, 0);
    if (!shared || !edge_pair_end()) work(argument, 1);
}

#endif
