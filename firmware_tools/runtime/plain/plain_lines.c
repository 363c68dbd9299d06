/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What infer and results are for a plain model. */
#include "lines.h"
#include "plain.h"
#include "plain_session.h"
#include "port.h"

#define LARGEST 9000000000000000.0f /* in magnitude, that three digits behind the point are printed of */

int lines_prepare(void) {
    if (session_loaded == edge_model.input_bytes) return 1;
    session_say("e-[The inputs take ", edge_model.input_bytes, " bytes: ");
    session_say("", session_loaded, " are loaded]\r\n");
    return 0;
}

void lines_infer(void) {
    plain_infer(0);
}

/* x as printf's %.3f has it: the nearest thousandth, ties to even. */
static void print_real(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    if (bits >> 31) session_print("-");
    if (x != x) {
        session_print("nan");
        return;
    }
    uint32_t exponent = bits >> 23 & 255, fraction = exponent ? (bits & 0x7FFFFF) | 0x800000 : bits & 0x7FFFFF;
    uint64_t thousandths = (uint64_t)fraction * 1000u; /* of 2^-shift each */
    uint32_t shift = 150 - (exponent ? exponent : 1);
    if (x > LARGEST || x < -LARGEST) {
        session_print("inf");
        return;
    }
    if (exponent > 150) {
        thousandths <<= exponent - 150;
    } else if (shift > 40) {
        thousandths = 0; /* below half of a thousandth */
    } else if (shift) {
        uint64_t half = (uint64_t)1 << (shift - 1), rest = thousandths & (2 * half - 1);
        thousandths >>= shift;
        if (rest > half || (rest == half && (thousandths & 1))) thousandths++;
    }
    char digits[20];
    session_say("", thousandths / 1000u, ".");
    session_digits(1000u + thousandths % 1000u, digits);
    port_write((const uint8_t *)digits + 1, 3);
}

/* Element i of an output, dequantized where it is quantized. */
static float element(const edge_tensor *tensor, uint32_t i) {
    const uint8_t *at = edge_arena + tensor->offset_bytes;
    int64_t stored = 0;
    int16_t half;
    int32_t word;
    float real;
    switch (tensor->kind) {
    case EDGE_FLOAT32:
        __builtin_memcpy(&real, at + 4 * i, sizeof real);
        return real;
    case EDGE_INT8:
        stored = (int8_t)at[i];
        break;
    case EDGE_INT16:
        __builtin_memcpy(&half, at + 2 * i, sizeof half);
        stored = half;
        break;
    case EDGE_INT32:
        __builtin_memcpy(&word, at + 4 * i, sizeof word);
        stored = word;
        break;
    case EDGE_INT64:
        __builtin_memcpy(&stored, at + 8 * i, sizeof stored);
        break;
    default:
        stored = at[i];
    }
    if (tensor->scale == 0.0f) return (float)stored;
    return tensor->scale * (float)(int32_t)(stored - tensor->zero_point);
}

/* All outputs, one after the other, as real numbers. */
void lines_results(void) {
    static const uint8_t bytes[] = {[EDGE_FLOAT32] = 4, [EDGE_INT8] = 1, [EDGE_UINT8] = 1, [EDGE_INT16] = 2,
                                    [EDGE_INT32] = 4,   [EDGE_INT64] = 8, [EDGE_BOOL] = 1};
    if (!plain_has_outputs) {
        session_print("e-[No results: infer first]\r\n");
        return;
    }
    session_print("m-results-[");
    for (uint32_t index = 0; index < edge_model.output_count; index++) {
        const edge_tensor *output = edge_model.outputs + index;
        for (uint32_t i = 0; i < output->size_bytes / bytes[output->kind]; i++) {
            if (index || i) session_print(",");
            print_real(element(output, i));
        }
    }
    session_print("]\r\n");
}
