/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "table_int8.h"

void edge_table_int8(const void *x, void *y, const int8_t *table, int32_t count) {
    const uint8_t *from = x;
    int8_t *to = y;
    for (int32_t i = 0; i < count; i++) to[i] = table[from[i]];
}
