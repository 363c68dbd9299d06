/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int16.h"

#include "dots_int16_dsp.h"
#include "fully_connected_int16_scale.h"

void edge_fully_connected_s16_dsp(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                                  const edge_fully_connected_int16 *shape) {
    for (int32_t b = 0; b < shape->batches; b++, x += shape->columns) {
        const int8_t *rows = weights;
        for (int32_t n = 0; n < shape->rows; n += 2, rows += 2 * shape->columns) {
            edge_two_sums sums = {edge_wide(bias + 2 * n), edge_wide(bias + 2 * n + 2)};
            sums = edge_two_dots(sums, x, rows, shape->columns / 4);
            *y++ = edge_connected_int16(sums.a, shape);
            *y++ = edge_connected_int16(sums.b, shape);
        }
    }
}
