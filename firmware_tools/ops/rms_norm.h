/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_RMS_NORM_H
#define EDGE_RMS_NORM_H

#include <stddef.h>

/* For each of count rows y[dim] = x / sqrt(mean(x * x) + epsilon) * gain; y may be x. */
void edge_rms_norm_f32(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count);
void edge_rms_norm_f32_dsp(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count);
void edge_rms_norm_f32_mve(const float *x, float *y, const float *gain, float epsilon, size_t dim, size_t count);

#endif
