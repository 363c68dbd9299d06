/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_BFP_H
#define EDGE_FULLY_CONNECTED_BFP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const void *weights;    /* as the kernel's core wants them: firmware_tools/ops/fully_connected_bfp.py */
    const uint16_t *scales; /* one a row, all times 2^exponent */
    const int32_t *bias;    /* a row of 1 + rows integers, or NULL */
    size_t rows, columns;
    int32_t exponent;
    int32_t drop; /* bits that a dot times its factor loses: 8 or 16 */
} edge_bfp_matrix;

/* y = matrix x for count rows x of 1 + columns integers (firmware_tools/bfp.py), y of 1 + rows. workspace: a quantized
 * row, columns rounded up to a multiple of 4; bytes, or 2 bytes each for _v6m. Armv6-M's kernels read 1 byte a weight in
 * 2.5 instructions, or 2 bytes (wide) in 1.7. */
void edge_fully_connected_bfp(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                              void *workspace);
void edge_fully_connected_bfp_v6m(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                  void *workspace);
void edge_fully_connected_bfp_wide_v6m(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                       void *workspace);
void edge_fully_connected_bfp_v6m_pair(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                       void *workspace); /* two cores share the rows: pair.h */
void edge_fully_connected_bfp_wide_v6m_pair(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                            void *workspace);

#endif
