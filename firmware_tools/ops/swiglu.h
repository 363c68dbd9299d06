/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_SWIGLU_H
#define EDGE_SWIGLU_H

#include <stddef.h>

/* For each of count rows y[size] = SiLU(gate_up[0 .. size)) * gate_up[size .. 2 size); y may be gate_up. */
void edge_swiglu_f32(const float *gate_up, float *y, size_t size, size_t count);
/* The same with the logistic function from a table, for int8 models. */
void edge_swiglu_s8(const float *gate_up, float *y, size_t size, size_t count);
void edge_swiglu_s8_dsp(const float *gate_up, float *y, size_t size, size_t count);
void edge_swiglu_s8_mve(const float *gate_up, float *y, size_t size, size_t count);

#endif
