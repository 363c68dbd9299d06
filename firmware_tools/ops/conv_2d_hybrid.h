/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_CONV_2D_HYBRID_H
#define EDGE_CONV_2D_HYBRID_H

#include "conv_2d_float.h"

/* As edge_conv_2d_f32, with int8 weights of scales[filters]; each image is quantized into the workspace, a byte an
 * element, with a zero point where is_asymmetric. */
void edge_conv_2d_hybrid(const float *x, float *y, const int8_t *weights, const float *scales, const float *bias,
                         const edge_float_conv *shape, int is_asymmetric, void *workspace);

#endif
