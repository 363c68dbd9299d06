/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "resize_nearest_neighbor.h"

void edge_resize_nearest_neighbor(const void *x, void *y, const uint16_t *rows, const uint16_t *columns, int32_t batches,
                                  int32_t height, int32_t width, int32_t pixel_bytes, int32_t out_height,
                                  int32_t out_width) {
    const uint8_t *image = x;
    uint8_t *to = y;
    for (int32_t b = 0; b < batches; b++, image += height * width * pixel_bytes) {
        for (int32_t i = 0; i < out_height; i++) {
            const uint8_t *row = image + rows[i] * width * pixel_bytes;
            for (int32_t j = 0; j < out_width; j++) {
                const uint8_t *pixel = row + columns[j] * pixel_bytes;
                for (int32_t k = 0; k < pixel_bytes; k++) *to++ = pixel[k];
            }
        }
    }
}
