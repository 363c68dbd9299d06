/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int16.h"

#include "fully_connected_int16_scale.h"

void edge_fully_connected_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                              const edge_fully_connected_int16 *shape) {
    for (int32_t b = 0; b < shape->batches; b++, x += shape->columns) {
        const int8_t *row = weights;
        for (int32_t n = 0; n < shape->rows; n++, row += shape->columns) {
            int64_t sum = edge_wide(bias + 2 * n);
            for (int32_t k = 0; k < shape->columns; k++) sum += row[k] * x[k];
            *y++ = edge_connected_int16(sum, shape);
        }
    }
}
