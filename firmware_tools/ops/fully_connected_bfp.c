/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_bfp.h"

#include "bfp.h"

EDGE_BFP_PART edge_bfp_scale edge_quantize(const int32_t *x, size_t columns, int8_t *q) {
    edge_bfp_scale scale = edge_bfp_find_scale(edge_bfp_largest(x + 1, columns), x[0]);
    EDGE_BFP_ROLLED
    for (size_t i = 0; i < columns; i++) q[i] = (int8_t)edge_bfp_quantized(x[1 + i], scale);
    return scale;
}

static inline int32_t edge_finish(int32_t dot, int32_t factor, int32_t scale, int32_t drop) {
    return edge_bfp_product(dot, (int32_t)((uint32_t)factor * (uint32_t)scale >> 16), drop);
}

void edge_fully_connected_bfp(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                              void *workspace) {
    size_t columns = matrix->columns, rows = matrix->rows;
    const int8_t *q = workspace;
    for (; count > 0; count--, x += 1 + columns, y += 1 + rows) {
        const int8_t *weights = matrix->weights;
        edge_bfp_scale scale = edge_quantize(x, columns, workspace);
        y[0] = scale.exponent + matrix->exponent + 16 + matrix->drop;
        for (size_t n = 0; n < rows; n += 4, weights += 4 * columns) {
            /* 4 rows at a time, so that q is loaded once for them; the last group repeats rows where there are fewer */
            size_t last = rows - n < 4 ? rows - n - 1 : 3;
            const int8_t *w1 = weights + (last < 1 ? last : 1) * columns;
            const int8_t *w2 = weights + (last < 2 ? last : 2) * columns;
            const int8_t *w3 = weights + last * columns;
            int32_t dots[4] = {0};
            EDGE_BFP_ROLLED
            for (size_t k = 0; k < columns; k++) {
                dots[0] += weights[k] * q[k];
                dots[1] += w1[k] * q[k];
                dots[2] += w2[k] * q[k];
                dots[3] += w3[k] * q[k];
            }
            for (size_t r = 0; r <= last; r++)
                y[1 + n + r] = edge_finish(dots[r], scale.factor, matrix->scales[n + r], matrix->drop);
        }
        if (matrix->bias) edge_bfp_add(y, matrix->bias, y, rows);
    }
}
