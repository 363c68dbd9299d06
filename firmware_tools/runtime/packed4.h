/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Packed matrices of 4-bit integers in portable C; firmware_tools/packed4.py explains them. */
#ifndef EDGE_PACKED4_H
#define EDGE_PACKED4_H

#include "packed.h"

#define EDGE_GROUP_COLUMN_BYTES 2 /* of a group of 4 rows */

/* dots[4] of a group of rows with blocks * 4 columns of a quantized row, as edge_quantize leaves it. */
static inline void edge_dots4(const uint16_t *group, const uint32_t *words, size_t blocks, int32_t *dots) {
    dots[0] = dots[1] = dots[2] = dots[3] = 0;
    for (size_t b = 0; b < blocks; b++, group += 4) {
        for (size_t j = 0; j < 4; j++) {
            int32_t x = (int8_t)(words[b] >> 8 * j);
            uint32_t column = group[(j & 1) << 1 | j >> 1]; /* columns 0, 2, 1, 3 */
            dots[0] += ((int32_t)(column & 15) - 8) * x;
            dots[1] += ((int32_t)(column >> 4 & 15) - 8) * x;
            dots[2] += ((int32_t)(column >> 8 & 15) - 8) * x;
            dots[3] += ((int32_t)(column >> 12 ^ 8) - 8) * x;
        }
    }
}

#endif
