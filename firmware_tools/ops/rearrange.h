/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_REARRANGE_H
#define EDGE_REARRANGE_H

#include <stdint.h>

#define EDGE_BOX_RANK 8

/* A box of runs of bytes that lie together; axes from the outer to the inner, all in bytes. */
typedef struct {
    int32_t run;
    int32_t from, to; /* where its first run is */
    int32_t rank;
    struct {
        int32_t count, from_step, to_step;
    } axes[EDGE_BOX_RANK];
} edge_box;

/* Copies a box of x to a box of y. */
void edge_rearrange(const void *x, void *y, const edge_box *box);

/* Makes all count elements of y the pattern's first `size` bytes, in the order of little-endian memory; an element of
 * more than 4 bytes repeats its first. */
void edge_fill(void *y, int32_t count, int32_t size, uint32_t pattern);

#endif
