/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "batch_matmul.h"

static float dot(const float *a, const float *b, size_t k, size_t a_step, size_t b_step) {
    float sum = 0.0f;
    for (; k--; a += a_step, b += b_step) sum += *a * *b;
    return sum;
}

void edge_batch_matmul_f32(const float *a, const float *b, float *y, size_t m, size_t k, size_t n, size_t a_row,
                           size_t a_column, size_t b_row, size_t b_column, const edge_broadcast *loops) {
    EDGE_OUTER_LOOPS(loops) {
        for (size_t batch = 0; batch < loops->size[3]; batch++) {
            const float *from_a = a + (EDGE_OPERAND_AT(loops, 0) + batch * loops->step[0][3]) * m * k;
            const float *from_b = b + (EDGE_OPERAND_AT(loops, 1) + batch * loops->step[1][3]) * k * n;
            for (size_t row = 0; row < m; row++)
                for (size_t column = 0; column < n; column++)
                    *y++ = dot(from_a + row * a_row, from_b + column * b_column, k, a_column, b_row);
        }
    }
}
