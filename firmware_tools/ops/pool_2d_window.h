/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The walk of a pooling window over images, for the kernels of pool_2d. */
#ifndef EDGE_POOL_2D_WINDOW_H
#define EDGE_POOL_2D_WINDOW_H

#include "pool_2d.h"
#include "requantize.h"

/* What output number `position` of an image sees of it. */
static inline edge_window_part edge_pool_part(const edge_window *w, int32_t position) {
    return edge_inside(w, position / w->out_width * w->stride_height - w->pad_top,
                       position % w->out_width * w->stride_width - w->pad_left);
}

/* sum / count, halves away from zero. */
static inline int32_t edge_mean(int32_t sum, int32_t count) {
    return sum > 0 ? (sum + count / 2) / count : -((-sum + count / 2) / count);
}

#endif
