/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Loops over the elements of a result while operands of fewer elements repeat; firmware_tools/floats.py makes them. */
#ifndef EDGE_BROADCAST_H
#define EDGE_BROADCAST_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t size[4];    /* of the nested loops, the innermost last */
    uint32_t step[3][4]; /* elements that each operand moves in them */
} edge_broadcast;

/* Before the body of the three outer loops. */
#define EDGE_OUTER_LOOPS(s)                                 \
    for (size_t n0 = 0; n0 < (s)->size[0]; n0++)            \
        for (size_t n1 = 0; n1 < (s)->size[1]; n1++)        \
            for (size_t n2 = 0; n2 < (s)->size[2]; n2++)

/* Where operand number k begins its innermost loop. */
#define EDGE_OPERAND_AT(s, k) (n0 * (s)->step[k][0] + n1 * (s)->step[k][1] + n2 * (s)->step[k][2])

#endif
