/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Two cores that are one: the second half first, and once more at the end, as where a second core stops before it has
 * answered. Which half runs is written to where a test may watch what it reads and writes. */
#include "pair.h"

volatile int pair_half = -1;

int edge_pair_begin(edge_pair_work *work, void *argument) {
    pair_half = 1;
    work(argument, 1);
    pair_half = 0;
    return 1;
}

int edge_pair_end(void) {
    pair_half = -1;
    return 0;
}
