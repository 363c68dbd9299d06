/* @PREFIX@: a model in plain C, written by edge.
 *
 *     static _Alignas(16) uint8_t memory[MODEL_MEMORY_BYTES];
 *     model_state state;
 *     if (model_init(&state, memory, sizeof memory)) … ;
 *     for (;;) {
 *         fill(model_input_0(&state), MODEL_INPUT_0_ELEMENTS);
 *         model_run(&state);
 *         use(model_output_0(&state), MODEL_OUTPUT_0_ELEMENTS);
 *     }
 *
 * Inputs and outputs lie in the memory that the caller gives; a run overwrites the inputs, so all are written before each.
 * Numbers with a scale stand for scale * (number - zero point).
 *
 * No heap, no variables of its own, no hardware: all that changes lies in that memory, so that several states run side by
 * side, each in its own. Functions of one state must not run at once. Built for @CORE@; the numbers are those of the
 * firmware that `edge build` makes, bit for bit, where floats are not contracted (-ffp-contract=off, which the
 * CMakeLists.txt beside sets).
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@SIZES@

enum {
    MODEL_OK = 0,
    MODEL_TOO_LITTLE_MEMORY = -1, /* fewer bytes than MODEL_MEMORY_BYTES */
    MODEL_MISALIGNED = -2         /* memory is not on a multiple of 16 */
};

/* Where the model's memory lies. */
typedef struct {
    uint8_t *kept, *arena;
} model_state;

/* Prepares memory, which is the caller's and must live as long as the state. It need not be cleared. */
int model_init(model_state *state, void *memory, size_t bytes);

/* One inference of the inputs as they are. */
void model_run(model_state *state);

/* Forgets what the model keeps from one inference to the next; model_init does so too. */
void model_reset(model_state *state);

@BORDERS@

#ifdef __cplusplus
}
#endif

#endif
