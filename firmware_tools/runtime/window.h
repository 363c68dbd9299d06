/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The window that a convolution or pooling moves over an image; firmware_tools/window.py. */
#ifndef EDGE_WINDOW_H
#define EDGE_WINDOW_H

#include <stdint.h>

typedef struct {
    int32_t height, width; /* of the image */
    int32_t out_height, out_width;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_left; /* rows and columns before the first of the image */
} edge_window;

/* The taps of a window that lie inside the image: so many rows and columns from a first tap on, and where that lies. */
typedef struct {
    int32_t tap_row, tap_column, row, column, rows, columns;
} edge_window_part;

/* Of taps that begin at `start` and lie step apart: the first inside [0, size), and in *count how many there are. */
static inline int32_t edge_taps_inside(int32_t start, int32_t step, int32_t taps, int32_t size, int32_t *count) {
    int32_t first = start < 0 ? (-start + step - 1) / step : 0;
    int32_t end = start < size ? (size - start + step - 1) / step : 0;
    if (end > taps) end = taps;
    *count = end > first ? end - first : 0;
    return first;
}

static inline edge_window_part edge_inside(const edge_window *w, int32_t top, int32_t left) {
    edge_window_part part;
    part.tap_row = edge_taps_inside(top, w->dilation_height, w->kernel_height, w->height, &part.rows);
    part.tap_column = edge_taps_inside(left, w->dilation_width, w->kernel_width, w->width, &part.columns);
    part.row = top + part.tap_row * w->dilation_height;
    part.column = left + part.tap_column * w->dilation_width;
    return part;
}

#endif
