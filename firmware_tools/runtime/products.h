/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the functions of products_dsp.h are given. */
#ifndef EDGE_PRODUCTS_H
#define EDGE_PRODUCTS_H

#include <stddef.h>
#include <stdint.h>

#define EDGE_WORD_SIGNS 0x007F007Fu

/* All that a product of one window needs. */
typedef struct {
    const void *x;
    size_t constant; /* EDGE_WORD_SIGNS where x is bytes */
    size_t blocks;
    const int32_t *start; /* of each row's sum */
    size_t entry; /* edge_entry */
    union {
        int32_t alike[3];    /* multiplier, offset, shift of all rows */
        const int32_t *each; /* of each row */
    } scaling;
    void *y, *end;
    const int8_t *weights;
} edge_product_1;

#endif
