/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "compare.h"

#define EDGE_COMPARE(name, suffix, type, operation)                                                                   \
    void edge_compare_##name##_##suffix(const type *a, const type *b, uint8_t *y, const edge_broadcast *shape) {     \
        EDGE_OUTER_LOOPS(shape) {                                                                                     \
            const type *p = a + EDGE_OPERAND_AT(shape, 0), *q = b + EDGE_OPERAND_AT(shape, 1);                        \
            for (size_t n = shape->size[3]; n--; p += shape->step[0][3], q += shape->step[1][3])                      \
                *y++ = *p operation *q;                                                                               \
        }                                                                                                             \
    }

EDGE_COMPARE(less, f32, float, <)
EDGE_COMPARE(less, s32, int32_t, <)
EDGE_COMPARE(less, s8, int8_t, <)
EDGE_COMPARE(less_equal, f32, float, <=)
EDGE_COMPARE(less_equal, s32, int32_t, <=)
EDGE_COMPARE(less_equal, s8, int8_t, <=)
EDGE_COMPARE(greater, f32, float, >)
EDGE_COMPARE(greater, s32, int32_t, >)
EDGE_COMPARE(greater, s8, int8_t, >)
EDGE_COMPARE(greater_equal, f32, float, >=)
EDGE_COMPARE(greater_equal, s32, int32_t, >=)
EDGE_COMPARE(greater_equal, s8, int8_t, >=)
EDGE_COMPARE(equal, f32, float, ==)
EDGE_COMPARE(equal, s32, int32_t, ==)
EDGE_COMPARE(equal, s8, int8_t, ==)
EDGE_COMPARE(equal, b8, uint8_t, ==)
EDGE_COMPARE(not_equal, f32, float, !=)
EDGE_COMPARE(not_equal, s32, int32_t, !=)
EDGE_COMPARE(not_equal, s8, int8_t, !=)
EDGE_COMPARE(not_equal, b8, uint8_t, !=)
EDGE_COMPARE(and, b8, uint8_t, &&)
EDGE_COMPARE(or, b8, uint8_t, ||)
