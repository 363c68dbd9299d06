/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* How the kernels of conv_2d gather what a window sees. */
#ifndef EDGE_CONV_2D_WINDOW_H
#define EDGE_CONV_2D_WINDOW_H

#include "conv_2d.h"
#include "exp.h"

typedef uint32_t __attribute__((may_alias)) edge_filling; /* bytes that are filled a word at a time */

/* Copies count bytes, a word at a time as far as that goes. */
static inline void edge_copy_run(const int8_t *from, int32_t count, int8_t *to) {
    EDGE_ROLLED
    for (; count >= 4; count -= 4, from += 4, to += 4) __builtin_memcpy(to, from, 4);
    EDGE_ROLLED
    for (; count > 0; count--) *to++ = *from++;
}

/* Gathers the window at (top, left) in bytes, 4-byte aligned and rounded up to words; outside the image it is filled with
 * the zero point. */
static inline void edge_gather(const int8_t *image, const edge_conv_2d *shape, int32_t top, int32_t left, int8_t *bytes) {
    const edge_window *w = &shape->window;
    int32_t depth = shape->in_channels, row_bytes = w->kernel_width * depth;
    int32_t pitch = w->width * depth;
    edge_filling *words = (edge_filling *)bytes, *end = words + (row_bytes * w->kernel_height + 3) / 4;
    EDGE_ROLLED
    while (words < end) *words++ = (uint8_t)shape->zero_point * 0x01010101u;
    for (int32_t i = 0; i < w->kernel_height; i++, top += w->dilation_height, bytes += row_bytes) {
        if (top < 0 || top >= w->height) continue;
        if (w->dilation_width == 1) {
            int32_t begin = left < 0 ? -left : 0;
            int32_t end = w->width - left < w->kernel_width ? w->width - left : w->kernel_width;
            edge_copy_run(image + top * pitch + (left + begin) * depth, (end - begin) * depth, bytes + begin * depth);
        } else {
            for (int32_t j = 0; j < w->kernel_width; j++) {
                int32_t column = left + j * w->dilation_width;
                if (column < 0 || column >= w->width) continue;
                edge_copy_run(image + top * pitch + column * depth, depth, bytes + j * depth);
            }
        }
    }
}

#endif
