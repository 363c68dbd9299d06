/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* From int64 accumulators to int16; firmware_tools/requantize_int16.py explains the arithmetic. */
#ifndef EDGE_REQUANTIZE_INT16_H
#define EDGE_REQUANTIZE_INT16_H

#include <stdint.h>

/* x * reduced[0] / 2^reduced[1], ties up. */
static inline int32_t edge_scale_reduced(int64_t x, const int32_t *reduced) {
    return (int32_t)((x * reduced[0] + ((int64_t)1 << (reduced[1] - 1))) >> reduced[1]);
}

/* A stored pair (low, high). */
static inline int64_t edge_wide(const int32_t *pair) {
    return (int64_t)((uint64_t)(uint32_t)pair[1] << 32 | (uint32_t)pair[0]);
}

static inline int16_t edge_clamp_int16(int32_t x, int32_t least, int32_t most) {
    return (int16_t)(x < least ? least : x > most ? most : x);
}

#endif
