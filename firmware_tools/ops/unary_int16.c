/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "unary_int16.h"

#include "requantize.h"

void edge_slopes_int16(const int16_t *x, int16_t *y, int32_t count, const edge_slope slopes[2], int32_t least,
                       int32_t most) {
    for (int32_t i = 0; i < count; i++) {
        const edge_slope *slope = slopes + (x[i] < 0);
        int32_t scaled = slope->sign * edge_scale_twice_rounded(x[i], slope->multiplier, slope->exponent);
        y[i] = (int16_t)edge_clamp(scaled, least, most);
    }
}
