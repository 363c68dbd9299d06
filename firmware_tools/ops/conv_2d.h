/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_CONV_2D_H
#define EDGE_CONV_2D_H

#include "window.h"

typedef struct {
    edge_window window;
    int32_t batches, in_channels, out_channels, filter_channels;
    int32_t zero_point, out_zero_point, least, most;
} edge_conv_2d;

/* y[batches][out_height][out_width][out_channels] of x[batches][height][width][in_channels], one group of channels.
 * weights [out_channels][kernel_height][kernel_width][in_channels]; bias has the zero point folded in; scaling:
 * (multiplier, exponent) of each filter. workspace: a byte for each weight of a filter, rounded up to 4, where filters
 * are larger than a pixel. */
void edge_conv_2d_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                     const edge_conv_2d *shape, void *workspace);

/* The same for several groups: weights [out_channels][kernel_height][kernel_width][filter_channels], bias as it is. */
void edge_conv_2d_s8_groups(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                            const int32_t *scaling, const edge_conv_2d *shape);

/* The same for one group; weights, bias and scaling as firmware_tools/products.py lays them out, rows in twos.
 * workspace: 6 bytes for each weight of a filter, rounded up to 4 weights; 7 where a window is not words of x. */
void edge_conv_2d_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                         const edge_conv_2d *shape, void *workspace);

#endif
