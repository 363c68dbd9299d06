/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int8.h"
#include "dots.h"

void edge_fully_connected_int8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                               const int32_t *scaling, const edge_fully_connected_shape *shape) {
    int32_t step = shape->scalings > 1 ? 4 : 0, columns = shape->columns, last = shape->rows - 1;
    for (int32_t b = 0; b < shape->batches; b++, x += columns, y += shape->rows) {
        int32_t n = 0;
        for (; n < last; n += 2) {
            int32_t sums[2] = {bias[n], bias[n + 1]};
            edge_add_two_dots(weights + n * columns, weights + (n + 1) * columns, x, columns, sums);
            y[n] = edge_connected(sums[0], scaling + n * step, shape);
            y[n + 1] = edge_connected(sums[1], scaling + (n + 1) * step, shape);
        }
        if (n == last)
            y[n] = edge_connected(bias[n] + edge_dot(weights + n * columns, x, columns), scaling + n * step, shape);
    }
}
