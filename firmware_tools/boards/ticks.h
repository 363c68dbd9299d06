/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* port_ticks in 64 bits: a fine counter that wraps soon, completed by a coarse timer that tells how often it has.
 *
 * Both must run from the same source and start together, the fine one first: then their distance stays what it was.
 * Pure arithmetic, which the tests run on the host. */
#ifndef EDGE_TICKS_H
#define EDGE_TICKS_H

#include <stdint.h>

/* The time nearest to about (the coarse timer's, in ticks of the fine counter) that ends in the fine counter's bits.
 * Right whatever passed since the last call, as long as the two are apart by less than half the fine counter's period.
 * A counter that counts down, as SysTick: fine is 0 minus what it shows. */
static inline uint64_t ticks_nearest(uint64_t about, uint32_t fine, unsigned bits) {
    unsigned above = 32u - bits;
    int32_t apart = (int32_t)((fine - (uint32_t)about) << above) >> above;
    return about + (uint64_t)(int64_t)apart;
}

/* A coarse timer of so many bits, extended: *time is what it was at the last call, 0 before the first. To be called at
 * least once in each of the timer's periods. */
static inline uint64_t ticks_extend(uint64_t *time, uint32_t now, unsigned bits) {
    unsigned above = 32u - bits;
    *time += (now - (uint32_t)*time) << above >> above;
    return *time;
}

/* What is to be added to a fine counter from here on, after a sleep in which it may have stood still: before is the time
 * in ticks when the sleep began, about the coarse timer's after it. Time goes on where the coarse timer is, and never back:
 * it is wrong by less than one of the coarse timer's counts. */
static inline uint32_t ticks_after_sleep(uint64_t before, uint64_t about, uint32_t fine) {
    return (uint32_t)(about > before ? about : before) - fine;
}

#endif
