/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_LSTM_INT8_H
#define EDGE_LSTM_INT8_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t batches, steps, inputs, units;
    uint32_t time_major;                                     /* x and y are [steps][batches], not [batches][steps] */
    int32_t h_zero;                                          /* zero point of h as it enters the dot products */
    int32_t cell_bits, cell_clip;                            /* integer bits of the cells; 0: no clipping */
    int32_t hidden_multiplier, hidden_exponent, hidden_zero; /* what makes h of 15 + 15 fraction bits */
} edge_lstm_s8_shape;

/* y = what the LSTM gives for each step of x. weights[4][units][inputs], recurrent[4][units][units], bias[2][4][units]
 * and scaling[2][4] (multiplier, exponent) of both dot products of input, forget, cell and output gate. state: h less
 * h_zero [batches][units], cells int16 after an even number of bytes; it starts as zeros. workspace: 9 bytes a unit. */
void edge_lstm_s8(const int8_t *x, int8_t *y, const int8_t *weights, const int8_t *recurrent, const int32_t *bias,
                  const int32_t *scaling, const edge_lstm_s8_shape *shape, void *state, void *workspace);

/* The same through SMLAD: weights as lstm_int8.py packs them, rows in twos; workspace: 2 bytes more for each input or
 * unit, whichever are more, rounded up to 4. */
void edge_lstm_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int8_t *recurrent, const int32_t *bias,
                      const int32_t *scaling, const edge_lstm_s8_shape *shape, void *state, void *workspace);

#endif
