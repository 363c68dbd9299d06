/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "add_bfp.h"

#include "bfp.h"

void edge_add_bfp(const int32_t *a, const int32_t *b, int32_t *y, size_t size, size_t count) {
    for (; count > 0; count--, a += 1 + size, b += 1 + size, y += 1 + size) edge_bfp_add(a, b, y, size);
}
