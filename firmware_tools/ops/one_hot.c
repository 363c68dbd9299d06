/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "one_hot.h"

void edge_one_hot(const int32_t *indices, void *y, const void *values, size_t item_bytes, size_t outer, size_t depth,
                  size_t inner) {
    uint8_t *to = y;
    for (; outer--; indices += inner) {
        for (size_t d = 0; d < depth; d++) {
            for (size_t i = 0; i < inner; i++) {
                int hot = indices[i] >= 0 && (size_t)indices[i] == d;
                const uint8_t *from = (const uint8_t *)values + (hot ? item_bytes : 0);
                for (size_t j = 0; j < item_bytes; j++) *to++ = from[j];
            }
        }
    }
}
