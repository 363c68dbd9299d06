/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "binary_int8.h"
#include "products_dsp.h"

/* What the loops below take, in this order; y = ((t + sign of t + half) >> shift), t the high part of a product. */
typedef struct {
    int32_t offset, multiplier, half, shift; /* of u, the input on the finer scale; of mul: u's zero point, negated */
    int32_t v_offset;                        /* of v, whose factor is a power of 2; of mul: as u's */
    int32_t y_multiplier, y_half, y_shift;   /* y's zero point is in its half */
} edge_pair;

/* y[count] of u and v, by a body that makes r0 of the bytes r12 and lr. count > 0. */
#define EDGE_PAIRS(name, body)                                                                      \
    EDGE_PART void name(const int8_t *u, const int8_t *v, int8_t *y, int32_t count, const edge_pair *pair) { \
        uint32_t pushed[2]; /* in the frame, so that the compiler's count of the stack covers it */ \
        __asm__ volatile("" : : "r"(pushed));                                                       \
        register const int8_t *r1 __asm__("r1") = u;                                                \
        register const int8_t *r2 __asm__("r2") = v;                                                \
        register int8_t *r3 __asm__("r3") = y;                                                      \
        register int8_t *r4 __asm__("r4") = y + count;                                              \
        register const edge_pair *r5 __asm__("r5") = pair;                                          \
        __asm__ volatile(                                                                           \
            "push    {r4, r7}\n\t"                                                                  \
            "ldmia.w r5, {r4, r5, r6, r7, r8, r9, r10, r11}\n"                                      \
            "1:\n\t"                                                                                \
            "ldrsb   r12, [r1], #1\n\t"                                                             \
            "ldrsb   lr, [r2], #1\n\t" body                                                         \
            "add     r0, r0, r0, asr #31\n\t"                                                       \
            "add     r0, r0, r10\n\t"                                                               \
            "asr     r0, r0, r11\n\t"                                                               \
            "ssat    r0, #8, r0\n\t"                                                                \
            "strb    r0, [r3], #1\n\t"                                                              \
            "ldr     lr, [sp]\n\t"                                                                  \
            "cmp     r3, lr\n\t"                                                                    \
            "bne     1b\n\t"                                                                        \
            "pop     {r4, r7}"                                                                      \
            : "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5)                                      \
            :                                                                                       \
            : "r0", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");                   \
    }

/* 2 * (u's 20 bits beside on the common scale + v's) */
#define EDGE_SUM_OF(shift)                                                                          \
    "add     r12, r4, r12, lsl #" shift "\n\t"                                                      \
    "smmulr  r12, r12, r5\n\t"                                                                      \
    "add     r12, r12, r12, asr #31\n\t"                                                            \
    "add     r12, r12, r6\n\t"                                                                      \
    "asr     r12, r12, r7\n\t"                                                                      \
    "add     lr, r8, lr, lsl #20\n\t"                                                               \
    "add     lr, lr, r12, lsl #1\n\t"                                                               \
    "smmulr  r0, lr, r9\n\t"

EDGE_PAIRS(edge_sums, EDGE_SUM_OF("21"))
EDGE_PAIRS(edge_even_sums, EDGE_SUM_OF("22")) /* where u's factor is that of v: shift is 1 then, half of it taken back */
EDGE_PAIRS(edge_products, "add     r12, r12, r4\n\t"
                          "add     lr, lr, r8\n\t"
                          "mul     r12, r12, lr\n\t"
                          "lsl     r12, r12, #1\n\t"
                          "smmulr  r0, r12, r9\n\t")

typedef enum { EDGE_SUMS, EDGE_EVEN_SUMS, EDGE_PRODUCTS } edge_run; /* which function; pointers would hide the stack */

/* Walks all axes but the inner one, along which u and v are whole. */
static void edge_walk(const int8_t *u, const int8_t *v, int8_t *y, const edge_binary *shape, const edge_pair *pair,
                      int swapped, edge_run run) {
    int32_t at[EDGE_BINARY_RANK] = {0}, inner = shape->rank - 1, axis, count = shape->axes[inner].count;
    int8_t *first = y;
    do {
        if (run == EDGE_SUMS) edge_sums(u, v, y, count, pair);
        else if (run == EDGE_EVEN_SUMS) edge_even_sums(u, v, y, count, pair);
        else edge_products(u, v, y, count, pair);
        y += count;
        for (axis = inner - 1; axis >= 0; axis--) { /* to the next of the outer axes */
            int32_t u_step = swapped ? shape->axes[axis].b_step : shape->axes[axis].a_step;
            int32_t v_step = swapped ? shape->axes[axis].a_step : shape->axes[axis].b_step;
            u += u_step, v += v_step;
            if (++at[axis] < shape->axes[axis].count) break;
            u -= u_step * at[axis], v -= v_step * at[axis];
            at[axis] = 0;
        }
    } while (axis >= 0);
    edge_clamp_bytes(first, (int32_t)(y - first), shape->least, shape->most);
}

void edge_add_int8_dsp(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape) {
    int u = shape->exponents[0] == 0; /* v is the input on the coarser scale, whose factor is a half */
    int even = shape->exponents[u] == 0;
    int32_t shift = even ? 1 : -shape->exponents[u], y_shift = -shape->exponents[2];
    edge_pair pair = {
        .offset = -shape->zero_points[u] * (1 << (even ? 22 : 21)),
        .multiplier = shape->multipliers[u],
        .half = 1 << (shift - 1),
        .shift = shift,
        .v_offset = -shape->zero_points[1 - u] * (1 << 20),
        .y_multiplier = shape->multipliers[2],
        .y_half = (1 << (y_shift - 1)) + shape->zero_points[2] * (1 << y_shift),
        .y_shift = y_shift,
    };
    edge_walk(u ? b : a, u ? a : b, y, shape, &pair, u, even ? EDGE_EVEN_SUMS : EDGE_SUMS);
}

void edge_mul_int8_dsp(const int8_t *a, const int8_t *b, int8_t *y, const edge_binary *shape) {
    int32_t shift = -shape->exponents[0];
    edge_pair pair = {
        .offset = -shape->zero_points[0],
        .v_offset = -shape->zero_points[1],
        .y_multiplier = shape->multipliers[0],
        .y_half = (1 << (shift - 1)) + shape->zero_points[2] * (1 << shift),
        .y_shift = shift,
    };
    edge_walk(a, b, y, shape, &pair, 0, EDGE_PRODUCTS);
}
