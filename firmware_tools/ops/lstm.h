/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_LSTM_H
#define EDGE_LSTM_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t batches, steps, inputs, units;
    uint32_t time_major; /* x and y are [steps][batches], not [batches][steps] */
    uint32_t asymmetric; /* rows are quantized with a zero point */
    float cell_clip;     /* 0: none */
} edge_lstm_shape;

/* y = what the LSTM gives for each step of x. weights[4][units][inputs], recurrent[4][units][units], bias[4][units] for
 * input, forget, cell and output gate. state: h[batches][units], then c; it starts as zeros. workspace: 4 floats a unit. */
void edge_lstm_f32(const float *x, float *y, const float *weights, const float *recurrent, const float *bias,
                   const edge_lstm_shape *shape, void *state, void *workspace);

/* The same with int8 weights, scales[2][4] for those of inputs and of h; x and h are quantized on the way.
 * workspace: also a byte an input and a unit. */
void edge_lstm_hybrid(const float *x, float *y, const int8_t *weights, const int8_t *recurrent, const float *bias,
                      const float *scales, const edge_lstm_shape *shape, void *state, void *workspace);

#endif
