/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_ADD_H
#define EDGE_ADD_H

#include <stddef.h>

/* y[count] = a + b; y may be a or b. */
void edge_add_f32(const float *a, const float *b, float *y, size_t count);
void edge_add_f32_dsp(const float *a, const float *b, float *y, size_t count);
void edge_add_f32_mve(const float *a, const float *b, float *y, size_t count);

#endif
