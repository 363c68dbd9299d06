/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "swiglu_bfp.h"

#include "bfp.h"
#include "sigmoid_table.h"

/* Two loops, which Armv6-M has registers for, each with as few instructions for rows that need no shift to the left. */

static inline void edge_silu_of(const int32_t *gate, int32_t *y, const int32_t *end, int32_t to_step, edge_bfp_shift shift) {
    EDGE_BFP_ROLLED
    for (; gate != end; gate++, y++) {
        uint32_t step = (uint32_t)((*gate >> to_step) + 256);
        if (step > 511) step = (int32_t)step < 0 ? 0 : 511;
        *y = edge_bfp_shifted(*gate, shift) * edge_sigmoid_table[step] >> 17;
    }
}

/* y = SiLU(gate), in 14 bits. */
EDGE_BFP_PART void edge_silu(const int32_t *gate, int32_t *y, size_t count, int32_t to_step, edge_bfp_shift shift) {
    if (shift.up) edge_silu_of(gate, y, gate + count, to_step, shift);
    else edge_silu_of(gate, y, gate + count, to_step, (edge_bfp_shift){0, shift.down});
}

static inline void edge_multiply_of(const int32_t *up, int32_t *y, const int32_t *end, edge_bfp_shift shift) {
    EDGE_BFP_ROLLED
    for (; up != end; up++, y++) *y *= edge_bfp_shifted(*up, shift);
}

EDGE_BFP_PART void edge_let_through(const int32_t *up, int32_t *y, size_t count, edge_bfp_shift shift) {
    if (shift.up) edge_multiply_of(up, y, up + count, shift);
    else edge_multiply_of(up, y, up + count, (edge_bfp_shift){0, shift.down});
}

void edge_swiglu_bfp(const int32_t *gate_up, int32_t *y, size_t size, size_t count) {
    for (; count > 0; count--, gate_up += 1 + 2 * size, y += 1 + size) {
        const int32_t *gate = gate_up + 1, *up = gate + size;
        int32_t shift = edge_bfp_narrowing(edge_bfp_bits(gate, 2 * size), EDGE_BFP_FULL), exponent = gate_up[0];
        int32_t to_step = -5 - exponent; /* steps of 1 / 32 */
        to_step = to_step < 0 ? 0 : to_step > 31 ? 31 : to_step;
        y[0] = 2 * (exponent + shift) + 1;
        edge_silu(gate, y + 1, size, to_step, edge_bfp_shift_of(shift));
        edge_let_through(up, y + 1, size, edge_bfp_shift_of(shift));
    }
}
