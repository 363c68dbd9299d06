/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_TRANSPOSE_CONV_H
#define EDGE_TRANSPOSE_CONV_H

#include <stdint.h>

typedef struct {
    int32_t batches, height, width, channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width, stride_height, stride_width;
    int32_t pad_top, pad_left; /* rows and columns that are cut off before the first of the output */
    int32_t zero_point, out_zero_point, least, most;
} edge_transpose_conv;

/* y[batches][out_height][out_width][out_channels] of x[batches][height][width][channels]. weights
 * [out_channels][kernel_height][kernel_width][channels]; scaling: (multiplier, exponent) of each filter. */
void edge_transpose_conv_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                            const int32_t *scaling, const edge_transpose_conv *shape);

#endif
