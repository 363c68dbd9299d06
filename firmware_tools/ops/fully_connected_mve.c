/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected.h"

#include "packed_mve.h"

/* The rows behind the last whole group: they are there, their scales and places in y are not. */
EDGE_PART void connect_rest(const int8_t *weights, size_t rest, const int8_t *integers, size_t vectors, float factor,
                            const float *scales, float *y) {
    float last_scales[EDGE_GROUP] = {0}, last[EDGE_GROUP];
    __builtin_memcpy(last_scales, scales, rest * sizeof *scales);
    edge_scaled_dots_mve(weights, 1, integers, vectors, factor, last_scales, last);
    __builtin_memcpy(y, last, rest * sizeof *y);
}

/* Two tokens, which share every load of weights. */
EDGE_PART void connect_pair(const float *x, float *y, const int8_t *weights, const float *scales, size_t rows,
                            size_t columns, int8_t *integers) {
    size_t vectors = edge_vectors(columns);
    float first = edge_quantize_in_turn_mve(x, columns, integers);
    float second = edge_quantize_in_turn_mve(x + columns, columns, integers + EDGE_LANES);
    edge_pair pair = {scales, y, y + rows, rows / EDGE_GROUP, edge_float_bits(first), edge_float_bits(second), integers};
    if (vectors == 4)
        edge_pair_of_4_mve(weights, vectors, &pair);
    else
        edge_pair_of_any_mve(weights, vectors, &pair);
}

void edge_fully_connected_s8_mve(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, void *workspace) {
    size_t vectors = edge_vectors(columns), whole = rows / EDGE_GROUP, rest = rows % EDGE_GROUP;
    for (; count >= 2 && rest == 0; count -= 2, x += 2 * columns, y += 2 * rows) {
        connect_pair(x, y, weights, scales, rows, columns, workspace);
        if (bias) edge_add_bias_mve(bias, y, rows), edge_add_bias_mve(bias, y + rows, rows);
    }
    for (; count; count--, x += columns, y += rows) {
        float factor = edge_quantize_mve(x, columns, workspace);
        edge_scaled_dots_mve(weights, whole, workspace, vectors, factor, scales, y);
        if (rest) {
            const int8_t *last = weights + whole * EDGE_GROUP * vectors * EDGE_LANES;
            connect_rest(last, rest, workspace, vectors, factor, scales + whole * EDGE_GROUP, y + whole * EDGE_GROUP);
        }
        if (bias) edge_add_bias_mve(bias, y, rows);
    }
}

/* y[4] of 4 rows, whose columns lie one after the other: lanes are rows, so that each sum runs first to last. */
static inline const float *connect_group_f32(const float *x, float *y, const float *weights, size_t columns) {
    size_t rest = columns % 4;
    __asm__ volatile(
        "vmov.i32 q0, #0\n\t"
        "wls    lr, %[blocks], 2f\n"
        "1:\n\t"
        "ldm    %[x]!, {r0, r2, r4, r6}\n\t"
        "vldrw.u32 q1, [%[weights]], #16\n\t vldrw.u32 q2, [%[weights]], #16\n\t"
        "vmul.f32 q1, q1, r0\n\t vldrw.u32 q3, [%[weights]], #16\n\t"
        "vmul.f32 q2, q2, r2\n\t vldrw.u32 q4, [%[weights]], #16\n\t"
        "vadd.f32 q0, q0, q1\n\t vmul.f32 q3, q3, r4\n\t"
        "vadd.f32 q0, q0, q2\n\t vmul.f32 q4, q4, r6\n\t"
        "vadd.f32 q0, q0, q3\n\t vadd.f32 q0, q0, q4\n\t"
        "le     lr, 1b\n"
        "2:\n\t"
        "wls    lr, %[rest], 4f\n"
        "3:\n\t"
        "ldr    r0, [%[x]], #4\n\t"
        "vldrw.u32 q1, [%[weights]], #16\n\t"
        "vmul.f32 q1, q1, r0\n\t"
        "vadd.f32 q0, q0, q1\n\t"
        "le     lr, 3b\n"
        "4:\n\t"
        "vstrw.32 q0, [%[y]]"
        : [x] "+r"(x), [weights] "+r"(weights)
        : [y] "r"(y), [blocks] "r"(columns / 4), [rest] "r"(rest)
        : "r0", "r2", "r4", "r6", "q0", "q1", "q2", "q3", "q4", "lr", "cc", "memory");
    return weights;
}

void edge_fully_connected_f32_mve(const float *x, float *y, const float *weights, const float *bias, size_t rows,
                                  size_t columns, size_t count) {
    for (; count--; x += columns, y += rows) {
        const float *group = weights;
        for (size_t n = 0; n < rows; n += EDGE_GROUP) {
            float last[EDGE_GROUP], *to = rows - n < EDGE_GROUP ? last : y + n;
            group = connect_group_f32(x, to, group, columns);
            if (to == last) __builtin_memcpy(y + n, last, (rows - n) * sizeof *y);
        }
        if (bias) edge_add_bias_mve(bias, y, rows);
    }
}
