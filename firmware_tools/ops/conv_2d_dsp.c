/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "conv_2d_window.h"
#include "products_dsp.h"

/* Widens the window at (top, left), as one of three; bytes: where it is gathered, unless its rows are words. */
EDGE_PART void edge_widen_window(const int8_t *image, const edge_conv_2d *shape, int32_t top, int32_t left,
                              uint32_t *words, int8_t *bytes) {
    const edge_window *w = &shape->window;
    int32_t pitch = w->width * shape->in_channels, step = pitch * w->dilation_height;
    size_t row_bytes = (size_t)(w->kernel_width * shape->in_channels), row_words = row_bytes / 4;
    int32_t last = top + (w->kernel_height - 1) * w->dilation_height;
    if (w->dilation_width == 1 && left >= 0 && left + w->kernel_width <= w->width && top >= 0 && last < w->height) {
        const int8_t *row = image + top * pitch + left * shape->in_channels;
        if (row_bytes % 4 == 0) {
            EDGE_ROLLED
            for (int32_t i = w->kernel_height; i > 0; i--, row += step, words += row_words * 6)
                edge_widen(row, row_words, words, 3);
            return;
        }
        int8_t *to = bytes; /* what is left in the last word meets weights of 0 */
        EDGE_ROLLED
        for (int32_t i = w->kernel_height; i > 0; i--, row += step, to += row_bytes)
            edge_copy_run(row, (int32_t)row_bytes, to);
    } else {
        edge_gather(image, shape, top, left, bytes);
    }
    edge_widen(bytes, (row_bytes * (size_t)w->kernel_height + 3) / 4, words, 3);
}

/* The outputs of 3 windows that were widened; rows in twos, and an odd last one by way of a place of its own. */
static void edge_multiply(edge_product_3 *product, int away, int32_t rows) {
    size_t entry = product->entry; /* the function makes an address of it */
    int8_t last[3][2], *to[3] = {product->y[0] + rows - 1, product->y[1] + rows - 1, product->y[2] + rows - 1};
    if (rows > 1) {
        product->end = product->y[0] + (rows & ~1);
        edge_multiply_3(product, away);
    }
    if (rows % 2 == 0) return;
    for (int32_t i = 0; i < 3; i++) product->y[i] = last[i];
    product->end = last[0] + 2;
    product->entry = entry;
    edge_multiply_3(product, away);
    for (int32_t i = 2; i >= 0; i--) *to[i] = last[i][0];
}

void edge_conv_2d_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias, const int32_t *scaling,
                         const edge_conv_2d *shape, void *workspace) {
    const edge_window *w = &shape->window;
    int32_t depth = w->kernel_height * w->kernel_width * shape->in_channels, outputs = w->out_height * w->out_width;
    size_t blocks = (size_t)(depth + 3) / 4;
    uint32_t *words = workspace;
    int8_t *bytes = (int8_t *)(words + 6 * blocks);
    int away = shape->least < shape->out_zero_point;
    int8_t *first = y;
    if (w->kernel_height * w->kernel_width == 1 && shape->in_channels % 4 == 0) {
        bytes = NULL; /* a window is words of the image */
    }
    for (int32_t b = 0; b < shape->batches; b++, x += w->height * w->width * shape->in_channels) {
        for (int32_t position = 0; position < outputs; position += 3) {
            edge_product_3 product = {words,   blocks, bias, edge_entry(blocks, EDGE_BLOCK_2_BY_3_BYTES),
                                      scaling, {y, y, y}, NULL, weights};
            for (int32_t i = 0; i < 3; i++) {
                if (position + i >= outputs) break;
                product.y[i] = y + i * shape->out_channels;
                int32_t top = (position + i) / w->out_width * w->stride_height - w->pad_top;
                int32_t left = (position + i) % w->out_width * w->stride_width - w->pad_left;
                if (bytes == NULL)
                    edge_widen(x + (top * w->width + left) * shape->in_channels, blocks, words + i, 3);
                else
                    edge_widen_window(x, shape, top, left, words + i, bytes);
            }
            edge_multiply(&product, away, shape->out_channels);
            y += (outputs - position < 3 ? outputs - position : 3) * shape->out_channels;
        }
    }
    edge_clamp_bytes(first, (int32_t)(y - first), shape->least, shape->most);
}
