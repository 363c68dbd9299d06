/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_TRANSPOSE_CONV_INT16_H
#define EDGE_TRANSPOSE_CONV_INT16_H

#include "window.h"

/* The window is that of the convolution from y's image (height, width) to x's (out_height, out_width). */
typedef struct {
    edge_window window;
    int32_t batches, in_channels, out_channels, least, most;
} edge_transpose_conv_int16;

/* y[batches][height][width][out_channels] of x[batches][out_height][out_width][in_channels]. weights
 * [out_channels][kernel_height][kernel_width][in_channels]; bias: low and high half of 64 bits; scaling:
 * (multiplier, right shift) of each filter (requantize_int16.h). */
void edge_transpose_conv_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                             const int32_t *scaling, const edge_transpose_conv_int16 *shape);

/* The same for channels that are a multiple of 4 and an even number of filters; weights as dots_int16_dsp.h has them. */
void edge_transpose_conv_s16_dsp(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                                 const int32_t *scaling, const edge_transpose_conv_int16 *shape);

#endif
