/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "softmax.h"
#include "fixed_point.h"

#define EDGE_SUM_BITS 12 /* integer bits of a row's sum */

void edge_softmax_s8(const int8_t *x, int8_t *y, const int32_t *table, int32_t rows, int32_t depth, int32_t entries) {
    for (; rows > 0; rows--, x += depth, y += depth) {
        int32_t largest = -128, headroom = 0;
        uint32_t sum = 0;
        for (int32_t i = 0; i < depth; i++)
            if (x[i] > largest) largest = x[i];
        for (int32_t i = 0; i < depth; i++)
            if (largest - x[i] < entries) sum += (uint32_t)edge_shifted_right(table[largest - x[i]], EDGE_SUM_BITS);
        for (; sum < 0x80000000u; sum <<= 1) headroom++;
        int32_t scale = edge_reciprocal((int32_t)(sum - 0x80000000u));
        int32_t exponent = EDGE_SUM_BITS - headroom + 31 - 8;
        if (exponent > 31) exponent = 31;
        for (int32_t i = 0; i < depth; i++) {
            int32_t power = largest - x[i] < entries ? table[largest - x[i]] : 0;
            int32_t result = edge_shifted_right(edge_high_product(scale, power), exponent) - 128;
            y[i] = (int8_t)(result > 127 ? 127 : result);
        }
    }
}
