/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ONE_HOT_H
#define EDGE_ONE_HOT_H

#include <stddef.h>
#include <stdint.h>

/* y[outer][depth][inner] = values[1] where indices[outer][inner] is the place along depth, else values[0]; elements of
 * item_bytes. */
void edge_one_hot(const int32_t *indices, void *y, const void *values, size_t item_bytes, size_t outer, size_t depth,
                  size_t inner);

#endif
