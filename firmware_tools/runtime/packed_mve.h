/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Int8 rows and matrices on a core with Helium; firmware_tools/packed.py explains the layout.
 *
 * VMLADAV adds 16 products to a register, and wants one load for them. Where a load follows a product and the other way
 * round, the core overlaps the two; a VLDM of several registers would count as fewer instructions and take longer. */
#ifndef EDGE_PACKED_MVE_H
#define EDGE_PACKED_MVE_H

#include "packed.h"
#include <stddef.h>
#include <stdint.h>

#define EDGE_LANES 16 /* int8 columns of a vector */
#define EDGE_GROUP 4  /* rows whose vectors alternate in memory */

static inline size_t edge_vectors(size_t columns) { return (columns + EDGE_LANES - 1) / EDGE_LANES; }

/* max |x| over count floats, as bits. */
static inline uint32_t edge_largest_mve(const float *x, size_t count) {
    uint32_t largest = 0;
    size_t rest = count % 16;
    __asm__ volatile(
        "vmov.i32 q0, #0\n\t"
        "wls    lr, %[blocks], 2f\n"
        "1:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q2\n\t vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t vmaxnma.f32 q0, q2\n\t"
        "le     lr, 1b\n"
        "2:\n\t"
        "wlstp.32 lr, %[rest], 4f\n"
        "3:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "letp   lr, 3b\n"
        "4:\n\t"
        "vmaxnmav.f32 %[largest], q0"
        : [x] "+r"(x), [largest] "+r"(largest)
        : [blocks] "r"(count / 16), [rest] "r"(rest)
        : "q0", "q1", "q2", "lr", "cc", "memory");
    return largest;
}

/* Where the integers of a row go whose largest number has these bits: the float to multiply by, 0 for a row of zeros;
 * *scale receives the way back. */
static inline float edge_inverse_of_mve(uint32_t largest_bits, float *scale) {
    float largest = edge_bits_float(largest_bits);
    int zero = !(largest > EDGE_TINIEST);
    *scale = zero ? 0.0f : largest / 127.0f;
    return zero ? 0.0f : 127.0f / largest;
}

static inline float edge_inverse_scale_mve(const float *x, size_t count, float *scale) {
    return edge_inverse_of_mve(edge_largest_mve(x, count), scale);
}

/* integers[count] = x * inverse to the nearest, ties to even. A vector of them begins so many bytes after the last: 16,
 * or 32 where two rows alternate. A store that narrows wants a low register. */
#define EDGE_ROUND_FUNCTION(name, bytes)                                                             \
    static inline void name(const float *x, size_t count, float inverse, int8_t *integers) {         \
        __asm__ volatile(                                                                            \
            "wls    lr, %[blocks], 2f\n"                                                             \
            "1:\n\t"                                                                                 \
            "vldrw.u32 q0, [%[x]], #16\n\t vldrw.u32 q1, [%[x]], #16\n\t"                            \
            "vmul.f32 q0, q0, %[inverse]\n\t vldrw.u32 q2, [%[x]], #16\n\t"                          \
            "vmul.f32 q1, q1, %[inverse]\n\t vldrw.u32 q3, [%[x]], #16\n\t"                          \
            "vmul.f32 q2, q2, %[inverse]\n\t vmul.f32 q3, q3, %[inverse]\n\t"                        \
            "vcvtn.s32.f32 q1, q1\n\t vcvtn.s32.f32 q2, q2\n\t"                                      \
            "vstrb.32 q1, [%[to], #4]\n\t vcvtn.s32.f32 q3, q3\n\t"                                  \
            "vstrb.32 q2, [%[to], #8]\n\t vcvtn.s32.f32 q0, q0\n\t"                                  \
            "vstrb.32 q3, [%[to], #12]\n\t vstrb.32 q0, [%[to]], #" bytes "\n\t"                     \
            "le     lr, 1b\n"                                                                        \
            "2:\n\t"                                                                                 \
            "wlstp.32 lr, %[rest], 4f\n"                                                             \
            "3:\n\t"                                                                                 \
            "vldrw.u32 q0, [%[x]], #16\n\t"                                                          \
            "vmul.f32 q0, q0, %[inverse]\n\t"                                                        \
            "vcvtn.s32.f32 q0, q0\n\t"                                                               \
            "vstrb.32 q0, [%[to]], #4\n\t"                                                           \
            "letp   lr, 3b\n"                                                                        \
            "4:"                                                                                     \
            : [x] "+r"(x), [to] "+l"(integers)                                                       \
            : [blocks] "r"(count / 16), [rest] "r"(count % 16), [inverse] "r"(edge_float_bits(inverse)) \
            : "q0", "q1", "q2", "q3", "lr", "cc", "memory");                                         \
    }

EDGE_ROUND_FUNCTION(edge_round_mve, "16")
EDGE_ROUND_FUNCTION(edge_round_in_turn_mve, "32")

static inline void edge_clear_vector_mve(int8_t *vector) {
    __asm__ volatile("vmov.i32 q0, #0\n\t vstrw.32 q0, [%[at]]" : : [at] "r"(vector) : "q0", "memory");
}

/* Quantizes x to integers[edge_vectors(count) * 16], zeros after the last; returns the scale. */
static inline float edge_quantize_mve(const float *x, size_t count, int8_t *integers) {
    float scale, inverse = edge_inverse_scale_mve(x, count, &scale);
    if (count % EDGE_LANES) edge_clear_vector_mve(integers + count / EDGE_LANES * EDGE_LANES);
    edge_round_mve(x, count, inverse, integers);
    return scale;
}

/* The same where the vectors of two rows alternate: integers is the first of one row's. */
static inline float edge_quantize_in_turn_mve(const float *x, size_t count, int8_t *integers) {
    float scale, inverse = edge_inverse_scale_mve(x, count, &scale);
    if (count % EDGE_LANES) edge_clear_vector_mve(integers + count / EDGE_LANES * 2 * EDGE_LANES);
    edge_round_in_turn_mve(x, count, inverse, integers);
    return scale;
}

/* y[rows] += bias */
static inline void edge_add_bias_mve(const float *bias, float *y, size_t rows) {
    __asm__ volatile(
        "dlstp.32 lr, %[rows]\n"
        "1:\n\t"
        "vldrw.u32 q1, [%[bias]], #16\n\t"
        "vldrw.u32 q0, [%[y]]\n\t"
        "vadd.f32 q0, q0, q1\n\t"
        "vstrw.32 q0, [%[y]], #16\n\t"
        "letp   lr, 1b"
        : [bias] "+r"(bias), [y] "+r"(y)
        : [rows] "r"(rows)
        : "q0", "q1", "lr", "cc", "memory");
}

/* Leaves the sums of a group's rows, r0, r2, r4 and r6, as results: dot * (factor * scale); convert says what is a dot. */
#define EDGE_SCALE_GROUP_OF(convert)                                                                 \
    "vldrw.u32 q5, [%[scales]], #16\n\t"                                                             \
    "vmov   q4[2], q4[0], r0, r4\n\t"                                                                \
    "vmov   q4[3], q4[1], r2, r6\n\t"                                                                \
    "vmul.f32 q5, q5, %[factor]\n\t"                                                                 \
    convert "vmul.f32 q4, q4, q5\n\t"                                                                \
    "vstrw.32 q4, [%[y]], #16\n\t"
#define EDGE_SCALE_GROUP EDGE_SCALE_GROUP_OF("vcvt.f32.s32 q4, q4\n\t")

/* 64 products: 16 columns, whose integers are in the register x, of 4 rows. */
#define EDGE_VECTOR_GROUP(mac, x)                                                                    \
    "vldrw.u32 q4, [%[rows]], #16\n\t vldrw.u32 q5, [%[rows]], #16\n\t"                              \
    mac " r0, q4, " x "\n\t vldrw.u32 q6, [%[rows]], #16\n\t"                                        \
    mac " r2, q5, " x "\n\t vldrw.u32 q7, [%[rows]], #16\n\t"                                        \
    mac " r4, q6, " x "\n\t"                                                                         \
    mac " r6, q7, " x "\n\t"

#define EDGE_LOAD_64                                                                                 \
    "vldrw.u32 q0, [%[x]]\n\t vldrw.u32 q1, [%[x], #16]\n\t"                                         \
    "vldrw.u32 q2, [%[x], #32]\n\t vldrw.u32 q3, [%[x], #48]\n\t"

#define EDGE_DOTS_64                                                                                 \
    EDGE_VECTOR_GROUP("vmladav.s8", "q0") EDGE_VECTOR_GROUP("vmladava.s8", "q1")                     \
    EDGE_VECTOR_GROUP("vmladava.s8", "q2") EDGE_VECTOR_GROUP("vmladava.s8", "q3")

#define EDGE_VECTORS_CHANGED                                                                         \
    "r0", "r2", "r4", "r6", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc", "memory"

/* y[4 * groups] of rows of up to 64 columns, 4 vectors: x stays in registers. */
EDGE_PART void edge_rows_of_4_mve(const int8_t *rows, size_t groups, const int8_t *x, float factor, const float *scales,
                                  float *y) {
    __asm__ volatile(
        EDGE_LOAD_64
        "dls    lr, %[groups]\n"
        "1:\n\t" EDGE_DOTS_64 EDGE_SCALE_GROUP
        "le     lr, 1b"
        : [rows] "+r"(rows), [scales] "+r"(scales), [y] "+r"(y)
        : [groups] "r"(groups), [x] "r"(x), [factor] "r"(edge_float_bits(factor))
        : EDGE_VECTORS_CHANGED);
}

/* The same for more than 4 vectors: the first 4 stay in registers. */
EDGE_PART void edge_long_rows_mve(const int8_t *rows, size_t groups, const int8_t *x, size_t vectors, float factor,
                                  const float *scales, float *y) {
    const int8_t *at;
    __asm__ volatile(
        EDGE_LOAD_64
        "2:\n\t" EDGE_DOTS_64
        "add    %[at], %[x], #64\n\t"
        "dls    lr, %[more]\n"
        "3:\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t" EDGE_VECTOR_GROUP("vmladava.s8", "q3")
        "le     lr, 3b\n\t" EDGE_SCALE_GROUP
        "vldrw.u32 q3, [%[x], #48]\n\t"
        "subs   %[groups], #1\n\t"
        "bne    2b"
        : [rows] "+r"(rows), [groups] "+r"(groups), [scales] "+r"(scales), [y] "+r"(y), [at] "=&r"(at)
        : [x] "r"(x), [more] "r"(vectors - 4), [factor] "r"(edge_float_bits(factor))
        : EDGE_VECTORS_CHANGED);
}

/* The same for any number of vectors. */
EDGE_PART void edge_short_rows_mve(const int8_t *rows, size_t groups, const int8_t *x, size_t vectors, float factor,
                                   const float *scales, float *y) {
    const int8_t *at;
    __asm__ volatile(
        "1:\n\t"
        "mov    %[at], %[x]\n\t"
        "movs   r0, #0\n\t movs r2, #0\n\t movs r4, #0\n\t movs r6, #0\n\t"
        "dls    lr, %[vectors]\n"
        "2:\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t" EDGE_VECTOR_GROUP("vmladava.s8", "q3")
        "le     lr, 2b\n\t" EDGE_SCALE_GROUP
        "subs   %[groups], #1\n\t"
        "bne    1b"
        : [rows] "+r"(rows), [groups] "+r"(groups), [scales] "+r"(scales), [y] "+r"(y), [at] "=&r"(at)
        : [x] "r"(x), [vectors] "r"(vectors), [factor] "r"(edge_float_bits(factor))
        : EDGE_VECTORS_CHANGED);
}

/* y[4 * groups]: dots of rows of `vectors` vectors with x, times the scales of both. */
static inline void edge_scaled_dots_mve(const int8_t *rows, size_t groups, const int8_t *x, size_t vectors,
                                        float factor, const float *scales, float *y) {
    if (groups == 0) return;
    if (vectors == 4) {
        edge_rows_of_4_mve(rows, groups, x, factor, scales, y);
    } else if (vectors > 4) {
        edge_long_rows_mve(rows, groups, x, vectors, factor, scales, y);
    } else {
        edge_short_rows_mve(rows, groups, x, vectors, factor, scales, y);
    }
}

/* What two tokens' results need; the kernel keeps it here while its registers hold the sums. */
typedef struct {
    const float *scales;
    float *first, *second;
    size_t groups;
    uint32_t first_factor, second_factor; /* floats */
    const int8_t *x;
} edge_pair;

/* 128 products: 16 columns of two tokens and 4 rows. */
#define EDGE_PAIR_GROUP(mac)                                                                         \
    "vldrw.u32 q0, [%[x]], #16\n\t vldrw.u32 q4, [%[rows]], #16\n\t vldrw.u32 q5, [%[rows]], #16\n\t" \
    mac " r0, q4, q0\n\t vldrw.u32 q1, [%[x]], #16\n\t"                                              \
    mac " r2, q5, q0\n\t vldrw.u32 q6, [%[rows]], #16\n\t"                                           \
    mac " r8, q4, q1\n\t vldrw.u32 q7, [%[rows]], #16\n\t"                                           \
    mac " r10, q5, q1\n\t" mac " r4, q6, q0\n\t" mac " r12, q6, q1\n\t"                              \
    mac " r6, q7, q0\n\t" mac " lr, q7, q1\n\t"

#define EDGE_PAIR_FUNCTION(name, more)                                                               \
    EDGE_PART void name(const int8_t *rows, size_t vectors, edge_pair *pair) {                       \
        const int8_t *x = pair->x;                                                                   \
        size_t left;                                                                                 \
        __asm__ volatile(                                                                            \
            "1:\n\t" EDGE_PAIR_GROUP("vmladav.s8") more                                              \
            "vmov   q4[2], q4[0], r0, r4\n\t vmov q4[3], q4[1], r2, r6\n\t"                          \
            "vmov   q5[2], q5[0], r8, r12\n\t vmov q5[3], q5[1], r10, lr\n\t"                        \
            "ldm    %[pair], {r0, r2, r4, r6, r8, r10, r12}\n\t"                                     \
            "vldrw.u32 q0, [r0], #16\n\t"                                                            \
            "vcvt.f32.s32 q4, q4\n\t vmul.f32 q1, q0, r8\n\t"                                        \
            "vcvt.f32.s32 q5, q5\n\t vmul.f32 q0, q0, r10\n\t"                                       \
            "vmul.f32 q4, q4, q1\n\t vmul.f32 q5, q5, q0\n\t"                                        \
            "vstrw.32 q4, [r2], #16\n\t vstrw.32 q5, [r4], #16\n\t"                                  \
            "subs   r6, #1\n\t"                                                                      \
            "stm    %[pair], {r0, r2, r4, r6}\n\t"                                                   \
            "mov    %[x], r12\n\t"                                                                   \
            "bne    1b"                                                                              \
            : [rows] "+r"(rows), [x] "+r"(x), [left] "=&r"(left)                                     \
            : [pair] "r"(pair), [vectors] "r"(vectors)                                               \
            : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q4", "q5", "q6", "q7", "cc", "memory"); \
    }

EDGE_PAIR_FUNCTION(edge_pair_of_4_mve, EDGE_PAIR_GROUP("vmladava.s8") EDGE_PAIR_GROUP("vmladava.s8")
                                           EDGE_PAIR_GROUP("vmladava.s8"))
EDGE_PAIR_FUNCTION(edge_pair_of_any_mve,
                   "subs   %[left], %[vectors], #1\n\t"
                   "beq    3f\n"
                   "2:\n\t" EDGE_PAIR_GROUP("vmladava.s8")
                   "subs   %[left], #1\n\t"
                   "bne    2b\n"
                   "3:\n\t")

#endif
