/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_DEPTHWISE_CONV_2D_H
#define EDGE_DEPTHWISE_CONV_2D_H

#include "window.h"

typedef struct {
    edge_window window;
    int32_t batches, channels, outputs;
    int32_t zero_point, out_zero_point, least, most;
} edge_depthwise_conv_2d;

/* y[batches][out_height][out_width][outputs] of x[batches][height][width][channels]. weights
 * [kernel_height][kernel_width][outputs]; scaling: (multiplier, exponent) of each output. workspace: 4 bytes for each
 * output channel. */
void edge_depthwise_conv_2d_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                               const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace);

/* The same for windows of 3 by 3 without dilation in width, an output for each channel, channels in fours: weights
 * [channels / 4][taps][4]; bias (zero point folded in) times 256; scaling as firmware_tools/products.py tells. workspace:
 * 24 bytes for each column that the windows of a row see, and 72. */
void edge_depthwise_conv_2d_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                   const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace);

/* The same for windows of any size, no zero point in the bias; workspace: 8 bytes for each tap. */
void edge_depthwise_conv_2d_s8_taps_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                        const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace);

#endif
