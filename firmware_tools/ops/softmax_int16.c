/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "softmax_int16.h"

#include "fixed_point.h"

#define EDGE_SUM_BITS 12 /* integer bits of a row's sum */

void edge_softmax_s8_s16(const int8_t *x, int16_t *y, const int32_t *table, int32_t rows, int32_t depth,
                         int32_t entries) {
    for (; rows > 0; rows--, x += depth, y += depth) {
        int32_t largest = -128, headroom = 0;
        uint32_t sum = 0;
        for (int32_t i = 0; i < depth; i++)
            if (x[i] > largest) largest = x[i];
        for (int32_t i = 0; i < depth; i++)
            if (largest - x[i] < entries) sum += (uint32_t)edge_shifted_right(table[largest - x[i]], EDGE_SUM_BITS);
        for (; sum < 0x80000000u; sum <<= 1) headroom++;
        int32_t scale = edge_reciprocal((int32_t)(sum - 0x80000000u));
        for (int32_t i = 0; i < depth; i++) {
            int32_t power = largest - x[i] < entries ? table[largest - x[i]] : 0;
            int32_t result = edge_shifted_right(edge_high_product(scale, power), EDGE_SUM_BITS - headroom + 31 - 16);
            y[i] = (int16_t)(result > 65535 ? 32767 : result - 32768);
        }
    }
}
