/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SELECT_H
#define EDGE_SELECT_H

#include "broadcast.h"

/* Each: y = condition ? a : b, element by element of so many bits in the loops of shape. */
void edge_select_8(const uint8_t *condition, const void *a, const void *b, void *y, const edge_broadcast *shape);
void edge_select_16(const uint8_t *condition, const void *a, const void *b, void *y, const edge_broadcast *shape);
void edge_select_32(const uint8_t *condition, const void *a, const void *b, void *y, const edge_broadcast *shape);

#endif
