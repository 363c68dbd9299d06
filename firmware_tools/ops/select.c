/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "select.h"

typedef uint8_t __attribute__((may_alias)) edge_any_8;
typedef uint16_t __attribute__((may_alias)) edge_any_16;
typedef uint32_t __attribute__((may_alias)) edge_any_32;

#define EDGE_SELECT(bits)                                                                                             \
    void edge_select_##bits(const uint8_t *condition, const void *a, const void *b, void *y,                         \
                            const edge_broadcast *shape) {                                                            \
        edge_any_##bits *to = y;                                                                                      \
        EDGE_OUTER_LOOPS(shape) {                                                                                     \
            const uint8_t *chosen = condition + EDGE_OPERAND_AT(shape, 0);                                            \
            const edge_any_##bits *p = (const edge_any_##bits *)a + EDGE_OPERAND_AT(shape, 1);                        \
            const edge_any_##bits *q = (const edge_any_##bits *)b + EDGE_OPERAND_AT(shape, 2);                        \
            for (size_t n = shape->size[3]; n--; chosen += shape->step[0][3]) {                                       \
                *to++ = *chosen ? *p : *q;                                                                            \
                p += shape->step[1][3], q += shape->step[2][3];                                                       \
            }                                                                                                         \
        }                                                                                                             \
    }

EDGE_SELECT(8)
EDGE_SELECT(16)
EDGE_SELECT(32)
