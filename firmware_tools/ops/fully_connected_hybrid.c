/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_hybrid.h"

#include "hybrid.h"

void edge_fully_connected_hybrid(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, int is_asymmetric,
                                 void *workspace) {
    for (; count--; x += columns) {
        edge_hybrid how = edge_quantize_hybrid(x, workspace, columns, is_asymmetric);
        for (size_t n = 0; n < rows; n++) {
            float v = (float)edge_hybrid_dot(weights + n * columns, workspace, columns, how.zero_point);
            v = v * (how.scale * scales[n]);
            *y++ = bias ? v + bias[n] : v;
        }
    }
}
