/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "embedding.h"

#include "packed_mve.h"

/* x[count] = 16 integers, or as many as are left, times scale. */
static inline void scale_vector(const int8_t *integers, float *x, size_t count, float scale) {
    __asm__ volatile(
        "dlstp.32 lr, %[count]\n"
        "1:\n\t"
        "vldrb.s32 q0, [%[integers]], #4\n\t"
        "vcvt.f32.s32 q0, q0\n\t"
        "vmul.f32 q0, q0, %[scale]\n\t"
        "vstrw.32 q0, [%[x]], #16\n\t"
        "letp   lr, 1b"
        : [integers] "+l"(integers), [x] "+r"(x)
        : [count] "r"(count), [scale] "r"(edge_float_bits(scale))
        : "q0", "lr", "cc", "memory");
}

void edge_embedding_s8_mve(const uint32_t *tokens, float *x, const int8_t *weights, const float *scales, size_t dim,
                           size_t count) {
    size_t row_bytes = edge_vectors(dim) * EDGE_LANES;
    for (; count--; tokens++) {
        uint32_t token = *tokens;
        const int8_t *row = weights + token / EDGE_GROUP * EDGE_GROUP * row_bytes + token % EDGE_GROUP * EDGE_LANES;
        for (size_t i = 0; i < dim; i += EDGE_LANES, row += EDGE_GROUP * EDGE_LANES, x += EDGE_LANES) {
            size_t left = dim - i < EDGE_LANES ? dim - i : EDGE_LANES;
            scale_vector(row, x, left, scales[token]);
        }
        x -= row_bytes - dim;
    }
}

/* 4 columns of a row lie 16 bytes from each other. */
void edge_embedding_f32_mve(const uint32_t *tokens, float *x, const float *weights, size_t dim, size_t count) {
    for (; count--; tokens++, x += dim) {
        const float *row = weights + *tokens / EDGE_GROUP * EDGE_GROUP * dim + *tokens % EDGE_GROUP;
        float *to = x;
        uint32_t first = 0;
        __asm__ volatile(
            "vidup.u32 q1, %[first], #4\n\t"
            "dlstp.32 lr, %[dim]\n"
            "1:\n\t"
            "vldrw.u32 q0, [%[row], q1, uxtw #2]\n\t"
            "add    %[row], #64\n\t"
            "vstrw.32 q0, [%[to]], #16\n\t"
            "letp   lr, 1b"
            : [row] "+r"(row), [to] "+r"(to), [first] "+Te"(first)
            : [dim] "r"(dim)
            : "q0", "q1", "lr", "cc", "memory");
    }
}
