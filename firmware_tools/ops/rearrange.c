/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "rearrange.h"

static inline void edge_copy_bytes(const uint8_t *x, uint8_t *y, int32_t count) {
    for (; count >= 4; count -= 4, x += 4, y += 4) __builtin_memcpy(y, x, 4);
    for (; count > 0; count--) *y++ = *x++;
}

void edge_rearrange(const void *x, void *y, const edge_box *box) {
    const uint8_t *from = (const uint8_t *)x + box->from;
    uint8_t *to = (uint8_t *)y + box->to;
    int32_t at[EDGE_BOX_RANK] = {0}, inner = box->rank - 1;
    if (inner < 0) {
        edge_copy_bytes(from, to, box->run);
        return;
    }
    int32_t count = box->axes[inner].count, from_step = box->axes[inner].from_step, to_step = box->axes[inner].to_step;
    for (;;) {
        const uint8_t *a = from;
        uint8_t *b = to;
        if (box->run == 1)
            for (int32_t i = 0; i < count; i++, a += from_step, b += to_step) *b = *a;
        else
            for (int32_t i = 0; i < count; i++, a += from_step, b += to_step) edge_copy_bytes(a, b, box->run);
        int32_t axis = inner - 1;
        for (; axis >= 0; axis--) { /* to the next of the outer axes, back to the start of those that end */
            from += box->axes[axis].from_step, to += box->axes[axis].to_step;
            if (++at[axis] < box->axes[axis].count) break;
            from -= box->axes[axis].from_step * at[axis], to -= box->axes[axis].to_step * at[axis];
            at[axis] = 0;
        }
        if (axis < 0) return;
    }
}

void edge_fill(void *y, int32_t count, int32_t size, uint32_t pattern) {
    uint8_t *bytes = y;
    for (int32_t i = 0; i < count * size; i++) bytes[i] = (uint8_t)(pattern >> (size <= 4 ? i % size * 8 : 0));
}
