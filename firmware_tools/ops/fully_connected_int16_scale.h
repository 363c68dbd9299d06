/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* An output of a fully connected layer of int16: fully_connected_int16.py explains the arithmetic. */
#ifndef EDGE_FULLY_CONNECTED_INT16_SCALE_H
#define EDGE_FULLY_CONNECTED_INT16_SCALE_H

#include "fully_connected_int16.h"
#include "requantize_int16.h"

static inline int16_t edge_connected_int16(int64_t sum, const edge_fully_connected_int16 *s) {
    uint64_t size = sum < 0 ? 0 - (uint64_t)sum : (uint64_t)sum, end = (uint64_t)1 << (s->shift - 14);
    if (size > end) size = end; /* past what int16 holds */
    uint64_t product = size * (uint32_t)s->high + (size * (uint32_t)s->low >> 24);
    int32_t scaled = (int32_t)((product + ((uint64_t)1 << (s->shift - 1))) >> s->shift);
    return edge_clamp_int16(sum < 0 ? -scaled : scaled, s->least, s->most);
}

#endif
