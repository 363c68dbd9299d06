/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "depthwise_conv_2d.h"
#include "products_dsp.h"

#define EDGE_COLUMN_WORDS 6 /* rows 0 and 1 of channels 3, 2, 0, 1 in pairs; row 2 of channels 0 and 2, of 1 and 3 */

/* Three rows of four channels each: where they are, and how far apart their columns. */
typedef struct {
    const int8_t *row[3];
    uint32_t step[3];
} edge_rows;

/* Makes words of count columns, count > 0. */
EDGE_PART void edge_pair_rows(const edge_rows *from, uint32_t *columns, size_t count) {
    uint32_t pushed[1]; /* in the frame, so that the compiler's count of the stack covers what the assembly pushes */
    __asm__ volatile("" : : "r"(pushed));
    register const edge_rows *r0 __asm__("r0") = from;
    register uint32_t *r1 __asm__("r1") = columns;
    register uint32_t *r2 __asm__("r2") = columns + EDGE_COLUMN_WORDS * count;
    __asm__ volatile(
        "push    {r7}\n\t"
        "mov     r12, r1\n\t"
        "mov     lr, r2\n\t"
        "ldmia.w r0, {r0, r1, r2, r9, r10, r11}\n\t"
        "mov     r7, r9\n\t"
        "push    {r10, r11, lr}\n"
        "1:\n\t"
        "ldr     r3, [r0]\n\t"
        "ldr     r4, [r1]\n\t"
        "ldr     r5, [r2]\n\t"
        "add     r0, r0, r7\n\t"
        "ldmia.w sp, {r8, r9, lr}\n\t"
        "add     r1, r1, r8\n\t"
        "add     r2, r2, r9\n\t"
        "sxtb16  r6, r3\n\t"
        "sxtb16  r3, r3, ror #8\n\t"
        "sxtb16  r8, r4\n\t"
        "sxtb16  r4, r4, ror #8\n\t"
        "pkhbt   r9, r6, r8, lsl #16\n\t"
        "pkhtb   r8, r8, r6, asr #16\n\t"
        "pkhbt   r10, r3, r4, lsl #16\n\t"
        "pkhtb   r4, r4, r3, asr #16\n\t"
        "sxtb16  r11, r5\n\t"
        "stmia.w r12!, {r4, r8, r9, r10, r11}\n\t"
        "sxtb16  r5, r5, ror #8\n\t"
        "str     r5, [r12], #4\n\t"
        "cmp     r12, lr\n\t"
        "bne     1b\n\t"
        "add     sp, #12\n\t"
        "pop     {r7}"
        : "+r"(r0), "+r"(r1), "+r"(r2)
        :
        : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

/* All that a row of windows needs, four channels of it. */
typedef struct {
    const uint32_t *columns;
    const uint32_t *weights;
    const int32_t *start;
    const int32_t *scaling;
    uint32_t columns_step; /* bytes from window to window */
    int8_t *y;
    uint32_t y_step;
    uint32_t count;
} edge_depthwise_row;

#define EDGE_COLUMN                                                                                 \
    "ldmia.w r0!, {r8, r9, r10, r11}\n\t"                                                           \
    "ldmia.w r1!, {r2, r7, r12, lr}\n\t"                                                            \
    "smlad   r6, r8, r2, r6\n\t smlad   r5, r9, r7, r5\n\t"                                         \
    "smlad   r3, r10, r12, r3\n\t smlad   r4, r11, lr, r4\n\t"                                      \
    "ldmia.w r0!, {r8, r9}\n\t"                                                                     \
    "ldmia.w r1!, {r2, r7}\n\t"                                                                     \
    "smlabb  r3, r8, r2, r3\n\t smlatt  r5, r8, r2, r5\n\t"                                         \
    "smlabb  r4, r9, r7, r4\n\t smlatt  r6, r9, r7, r6\n\t"

#define EDGE_SCALED(sum, multiplier, offset, shift)                                                 \
    "smmla   " sum ", " sum ", " multiplier ", " offset "\n\t"                                      \
    "asr     " sum ", " sum ", " shift "\n\t"                                                       \
    "ssat    " sum ", #8, " sum "\n\t"

/* The same where halves below zero go away from it; r1 is free, r7 is -128. */
#define EDGE_SCALED_AWAY(sum, multiplier, offset, shift)                                            \
    "and     r1, r7, " sum ", asr #24\n\t"                                                          \
    "smmla   " sum ", " sum ", " multiplier ", " offset "\n\t"                                      \
    "add     " sum ", " sum ", r1\n\t"                                                              \
    "asr     " sum ", " sum ", " shift "\n\t"                                                       \
    "ssat    " sum ", #8, " sum "\n\t"

#define EDGE_DEPTHWISE_ROW(name, scaled)                                                            \
    EDGE_PART void name(edge_depthwise_row *row) {                                                  \
        uint32_t pushed[2]; /* in the frame, so that the compiler's count of the stack covers it */ \
        __asm__ volatile("" : : "r"(pushed));                                                       \
        register edge_depthwise_row *r2 __asm__("r2") = row;                                        \
        __asm__ volatile(                                                                           \
            "push    {r2, r7}\n"                                                                    \
            "1:\n\t"                                                                                \
            "ldmia.w r2, {r0, r1, r8, r9, r10}\n\t"                                                 \
            "ldmia.w r8, {r3, r4, r5, r6}\n\t"                                                      \
            "add     r10, r10, r0\n\t"                                                              \
            "str     r10, [r2]\n\t" EDGE_COLUMN EDGE_COLUMN EDGE_COLUMN                             \
            "ldr     r2, [sp]\n\t"                                                                  \
            "mvn     r7, #127\n\t"                                                                  \
            "ldr     r0, [r2, #12]\n\t"                                                             \
            "ldmia.w r0!, {r8, r9, r10, r11, r12, lr}\n\t"                                          \
            scaled("r3", "r8", "r9", "r10") scaled("r4", "r11", "r12", "lr")                        \
            "ldmia.w r0!, {r8, r9, r10, r11, r12, lr}\n\t"                                          \
            scaled("r5", "r8", "r9", "r10") scaled("r6", "r11", "r12", "lr")                        \
            "add     r1, r2, #20\n\t"                                                               \
            "ldmia.w r1, {r8, r9, r10}\n\t"                                                         \
            "strb    r3, [r8]\n\t strb    r4, [r8, #1]\n\t"                                         \
            "strb    r5, [r8, #2]\n\t strb    r6, [r8, #3]\n\t"                                     \
            "add     r8, r8, r9\n\t"                                                                \
            "subs    r10, #1\n\t"                                                                   \
            "stmia.w r1, {r8, r9, r10}\n\t"                                                         \
            "bne     1b\n\t"                                                                        \
            "pop     {r2, r7}"                                                                      \
            : "+r"(r2)                                                                              \
            :                                                                                       \
            : "r0", "r1", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"); \
    }

EDGE_DEPTHWISE_ROW(edge_depthwise_row_s8, EDGE_SCALED)
EDGE_DEPTHWISE_ROW(edge_depthwise_row_s8_away, EDGE_SCALED_AWAY)

/* Four channels of an image: x and y point to the first of them. columns has those outside the image already. */
static void edge_depthwise_image(const int8_t *x, int8_t *y, const edge_depthwise_conv_2d *shape, uint32_t *columns,
                                 const uint32_t *outside, edge_depthwise_row row) {
    const edge_window *w = &shape->window;
    int32_t pitch = w->width * shape->channels;
    for (int32_t r = 0; r < w->out_height; r++, y += w->out_width * shape->outputs) {
        edge_rows rows;
        for (int32_t i = 0; i < 3; i++) {
            int32_t at = r * w->stride_height - w->pad_top + i * w->dilation_height;
            int inside = at >= 0 && at < w->height;
            rows.row[i] = inside ? x + at * pitch : (const int8_t *)outside;
            rows.step[i] = inside ? (uint32_t)shape->channels : 0;
        }
        edge_pair_rows(&rows, columns + EDGE_COLUMN_WORDS * w->pad_left, (size_t)w->width);
        row.y = y;
        row.columns = columns;
        row.count = (uint32_t)w->out_width;
        if (shape->least < shape->out_zero_point) edge_depthwise_row_s8_away(&row);
        else edge_depthwise_row_s8(&row);
    }
}

void edge_depthwise_conv_2d_s8_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                   const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace) {
    const edge_window *w = &shape->window;
    uint32_t *words = workspace, *columns = words + 3 * EDGE_COLUMN_WORDS;
    uint32_t outside = (uint8_t)shape->zero_point * 0x01010101u;
    edge_rows nothing = {{(const int8_t *)&outside, (const int8_t *)&outside, (const int8_t *)&outside}, {0, 0, 0}};
    int32_t reach = (w->out_width - 1) * w->stride_width + 3, right = reach - w->pad_left - w->width;
    if (w->pad_left > 0) edge_pair_rows(&nothing, columns, (size_t)w->pad_left);
    if (right > 0) edge_pair_rows(&nothing, columns + EDGE_COLUMN_WORDS * (reach - right), (size_t)right);
    for (int32_t c = 0; c < shape->channels; c += 4, weights += 36) {
        edge_rows filter = {{weights, weights + 12, weights + 24}, {4, 4, 4}};
        edge_pair_rows(&filter, words, 3);
        EDGE_ROLLED
        for (int32_t i = 0; i < 3 * EDGE_COLUMN_WORDS; i++) words[i] = words[i] << 8 & 0xFF00FF00u;
        edge_depthwise_row row = {.weights = words, .start = bias + c, .scaling = scaling + 3 * c};
        row.columns_step = 4 * EDGE_COLUMN_WORDS * (uint32_t)w->stride_width;
        row.y_step = (uint32_t)shape->outputs;
        for (int32_t b = 0; b < shape->batches; b++)
            edge_depthwise_image(x + b * w->height * w->width * shape->channels + c,
                                 y + b * w->out_height * w->out_width * shape->outputs + c, shape, columns, &outside, row);
    }
    edge_clamp_bytes(y, shape->batches * w->out_height * w->out_width * shape->outputs, shape->least, shape->most);
}

/* What a kernel row of taps needs, four channels of it; taps: 256 times the weights, those of channels 0 and 2 in one
 * word, those of 1 and 3 in the next. */
typedef struct {
    int32_t step, pitch; /* bytes from tap to tap in x, along rows and columns */
    int32_t tap_pitch;   /* words from row to row of the taps */
    uint32_t zero_point; /* in both halves */
} edge_taps;

/* Adds the products of all taps inside the image, from the first one on. */
static inline void edge_add_taps(const int8_t *corner, const uint32_t *first, const edge_taps *at, int32_t rows,
                                 int32_t columns, int32_t sums[4]) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    int16x2_t zero_point = (int16x2_t)at->zero_point;
    for (; rows > 0; rows--, corner += at->pitch, first += at->tap_pitch) {
        const int8_t *pixel = corner;
        const uint32_t *tap = first;
        EDGE_ROLLED
        for (int32_t j = columns; j > 0; j--, pixel += at->step, tap += 2) {
            uint32_t word = edge_load_word(pixel);
            int32_t even = __ssub16((int16x2_t)edge_even_channels(word), zero_point);
            int32_t odd = __ssub16((int16x2_t)edge_odd_columns(word), zero_point);
            s0 = __smlabb(even, (int32_t)tap[0], s0);
            s2 = __smlatt(even, (int32_t)tap[0], s2);
            s1 = __smlabb(odd, (int32_t)tap[1], s1);
            s3 = __smlatt(odd, (int32_t)tap[1], s3);
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

/* Four channels of an image, tap by tap: x and y point to the first of them. */
static void edge_depthwise_taps(const int8_t *x, int8_t *y, const uint32_t *taps, const int32_t *bias,
                                const int32_t *scaling, const edge_depthwise_conv_2d *shape) {
    const edge_window *w = &shape->window;
    int32_t channels = shape->channels, away = shape->least < shape->out_zero_point ? -128 : 0;
    edge_taps at = {w->dilation_width * channels, w->dilation_height * w->width * channels, 2 * w->kernel_width,
                    (uint16_t)shape->zero_point * 0x10001u};
    for (int32_t i = 0; i < w->out_height; i++) {
        int32_t rows, columns, top = i * w->stride_height - w->pad_top;
        int32_t tap_row = edge_taps_inside(top, w->dilation_height, w->kernel_height, w->height, &rows);
        const int8_t *row = x + (top + tap_row * w->dilation_height) * w->width * channels;
        for (int32_t j = 0; j < w->out_width; j++, y += channels) {
            int32_t left = j * w->stride_width - w->pad_left;
            int32_t tap_column = edge_taps_inside(left, w->dilation_width, w->kernel_width, w->width, &columns);
            int32_t sums[4] = {bias[0], bias[1], bias[2], bias[3]};
            edge_add_taps(row + (left + tap_column * w->dilation_width) * channels,
                          taps + tap_row * at.tap_pitch + 2 * tap_column, &at, rows, columns, sums);
            for (int32_t k = 0; k < 4; k++) {
                int32_t scaled = edge_scale_sum(sums[k], scaling[3 * k], scaling[3 * k + 1]) + (sums[k] >> 31 & away);
                y[k] = (int8_t)__ssat(scaled >> scaling[3 * k + 2], 8);
            }
        }
    }
}

void edge_depthwise_conv_2d_s8_taps_dsp(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *bias,
                                        const int32_t *scaling, const edge_depthwise_conv_2d *shape, void *workspace) {
    const edge_window *w = &shape->window;
    uint32_t *taps = workspace;
    int32_t image_bytes = w->height * w->width * shape->channels;
    int32_t out_bytes = w->out_height * w->out_width * shape->channels;
    for (int32_t c = 0; c < shape->channels; c += 4) {
        EDGE_ROLLED
        for (int32_t i = 0; i < w->kernel_height * w->kernel_width; i++, weights += 4) {
            uint32_t word = edge_load_word(weights);
            taps[2 * i] = word << 8 & 0xFF00FF00u;
            taps[2 * i + 1] = word & 0xFF00FF00u;
        }
        for (int32_t b = 0; b < shape->batches; b++)
            edge_depthwise_taps(x + b * image_bytes + c, y + b * out_bytes + c, taps, bias + c, scaling + 3 * c, shape);
    }
    edge_clamp_bytes(y, shape->batches * out_bytes, shape->least, shape->most);
}
