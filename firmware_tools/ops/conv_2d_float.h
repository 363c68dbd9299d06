/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_CONV_2D_FLOAT_H
#define EDGE_CONV_2D_FLOAT_H

#include "window.h"
#include <stddef.h>

typedef struct {
    edge_window window;
    uint32_t batches, channels, filters;
    uint32_t depth;    /* channels that a filter sees; the filters of a group see the same */
    float least, most; /* of the activation */
} edge_float_conv;

/* y = the convolution of x with weights[filters][kernel_height][kernel_width][depth] (+ bias, where it is not NULL). */
void edge_conv_2d_f32(const float *x, float *y, const float *weights, const float *bias, const edge_float_conv *shape);

#endif
