/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_CONV_2D_INT16_H
#define EDGE_CONV_2D_INT16_H

#include "window.h"

typedef struct {
    edge_window window;
    int32_t batches, in_channels, out_channels, filter_channels, least, most;
} edge_conv_2d_int16;

/* y[batches][out_height][out_width][out_channels] of x[batches][height][width][in_channels], all symmetric. weights
 * [out_channels][kernel_height][kernel_width][filter_channels]; bias: 64 bits of each filter, low and high half;
 * scaling: (multiplier, right shift) of each filter (requantize_int16.h). */
void edge_conv_2d_s16(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                      const edge_conv_2d_int16 *shape);

/* The same for one group of channels that are a multiple of 4, an even number of filters and no dilation of width.
 * weights of filters in twos, four channels of one and of the other, each four in the order 0, 2, 1, 3. */
void edge_conv_2d_s16_dsp(const int16_t *x, int16_t *y, const int8_t *weights, const int32_t *bias,
                          const int32_t *scaling, const edge_conv_2d_int16 *shape);

#endif
