/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* firmware_tools/packed4.py explains how weights lie. A VSHL and a VAND take both halves out of their bytes 16 times too
 * large, which the conversion of the sums makes up for, exactly. */
#include "fully_connected_int4.h"
#include "packed_mve.h"

#define VECTOR_COLUMNS 32

/* 32 products of one row, whose integers are in two registers. q7: the mask of upper halves. */
#define ROW(first, then, sum, low, high)                                                             \
    "vldrw.u32 q5, [%[rows]], #16\n\t"                                                               \
    "vshl.i8 q6, q5, #4\n\t"                                                                         \
    "vand   q5, q5, q7\n\t"                                                                          \
    first " " sum ", q6, " low "\n\t" then " " sum ", q5, " high "\n\t"
#define START "vmladav.s8"
#define ADD "vmladava.s8"
#define ROWS(first, low, high)                                                                       \
    ROW(first, ADD, "r0", low, high) ROW(first, ADD, "r2", low, high)                                \
    ROW(first, ADD, "r4", low, high) ROW(first, ADD, "r6", low, high)
#define SCALE_GROUP EDGE_SCALE_GROUP_OF("vcvt.f32.s32 q4, q4, #4\n\t")

/* y[4 * groups] of rows of 2 vectors or more, with a scale a row; the first 64 columns of x stay in registers. */
EDGE_PART void connect_long(const uint8_t *rows, size_t groups, const int8_t *x, size_t vectors, float factor,
                            const float *scales, float *y) {
    const int8_t *at;
    __asm__ volatile(
        EDGE_LOAD_64
        "vmov.i8 q7, #0xF0\n"
        "1:\n\t" ROWS(START, "q0", "q1") ROWS(ADD, "q2", "q3")
        "wls    lr, %[more], 3f\n\t"
        "add    %[at], %[x], #64\n"
        "2:\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t vldrw.u32 q4, [%[at]], #16\n\t" ROWS(ADD, "q3", "q4")
        "le     lr, 2b\n\t"
        "vldrw.u32 q3, [%[x], #48]\n"
        "3:\n\t" SCALE_GROUP
        "subs   %[groups], #1\n\t"
        "bne    1b"
        : [rows] "+r"(rows), [groups] "+r"(groups), [scales] "+r"(scales), [y] "+r"(y), [at] "=&r"(at)
        : [x] "r"(x), [more] "r"(vectors - 2), [factor] "r"(edge_float_bits(factor))
        : EDGE_VECTORS_CHANGED);
}

/* The same for rows of one vector. */
EDGE_PART void connect_short(const uint8_t *rows, size_t groups, const int8_t *x, float factor, const float *scales,
                             float *y) {
    __asm__ volatile(
        "vldrw.u32 q0, [%[x]]\n\t vldrw.u32 q1, [%[x], #16]\n\t"
        "vmov.i8 q7, #0xF0\n\t"
        "dls    lr, %[groups]\n"
        "1:\n\t" ROWS(START, "q0", "q1") SCALE_GROUP
        "le     lr, 1b"
        : [rows] "+r"(rows), [scales] "+r"(scales), [y] "+r"(y)
        : [groups] "r"(groups), [x] "r"(x), [factor] "r"(edge_float_bits(factor))
        : EDGE_VECTORS_CHANGED);
}

static inline void connect_groups(const uint8_t *rows, size_t groups, const int8_t *x, size_t vectors, float factor,
                                  const float *scales, float *y) {
    if (groups == 0) return;
    if (vectors == 1) {
        connect_short(rows, groups, x, factor, scales, y);
    } else {
        connect_long(rows, groups, x, vectors, factor, scales, y);
    }
}

/* The rows behind the last whole group: they are there, their scales and places in y are not. */
EDGE_PART void connect_rest(const uint8_t *rows, size_t rest, const int8_t *x, size_t vectors, float factor,
                            const float *scales, float *y) {
    float last_scales[EDGE_GROUP] = {0}, last[EDGE_GROUP];
    __builtin_memcpy(last_scales, scales, rest * sizeof *scales);
    connect_groups(rows, 1, x, vectors, factor, last_scales, last);
    __builtin_memcpy(y, last, rest * sizeof *y);
}

/* y[4 * groups] of blocks of one vector. */
EDGE_PART void connect_small_blocks(const uint8_t *rows, size_t groups, const int8_t *x, size_t blocks, float factor,
                                    const uint16_t *scales, float *y) {
    const int8_t *at;
    __asm__ volatile(
        "vmov.i8 q7, #0xF0\n"
        "1:\n\t"
        "vmov.i32 q1, #0\n\t"
        "mov    %[at], %[x]\n\t"
        "dls    lr, %[blocks]\n"
        "2:\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t vldrw.u32 q4, [%[at]], #16\n\t" ROWS(START, "q3", "q4")
        "vldrh.u32 q0, [%[scales]], #8\n\t"
        "vmov   q4[2], q4[0], r0, r4\n\t vmov q4[3], q4[1], r2, r6\n\t"
        "vcvtb.f32.f16 q0, q0\n\t"
        "vcvt.f32.s32 q4, q4, #4\n\t"
        "vmul.f32 q4, q4, q0\n\t"
        "vadd.f32 q1, q1, q4\n\t"
        "le     lr, 2b\n\t"
        "vmul.f32 q1, q1, %[factor]\n\t"
        "subs   %[groups], #1\n\t"
        "vstrw.32 q1, [%[y]], #16\n\t"
        "bne    1b"
        : [rows] "+r"(rows), [groups] "+r"(groups), [scales] "+l"(scales), [y] "+r"(y), [at] "=&r"(at)
        : [x] "r"(x), [blocks] "r"(blocks), [factor] "r"(edge_float_bits(factor))
        : "r0", "r2", "r4", "r6", "lr", "q0", "q1", "q3", "q4", "q5", "q6", "q7", "cc", "memory");
}

/* What the kernel below looks up while its registers hold sums. */
typedef struct {
    const int8_t *x;
    size_t blocks;
    size_t more;     /* vectors of a block after the first */
    uint32_t factor; /* a float */
} block_facts;

/* y[4 * groups] of blocks of two vectors or more. */
EDGE_PART void connect_large_blocks(const uint8_t *rows, size_t groups, const block_facts *facts,
                                    const uint16_t *scales, float *y) {
    const int8_t *at;
    size_t left;
    __asm__ volatile(
        "vmov.i8 q7, #0xF0\n"
        "1:\n\t"
        "vmov.i32 q1, #0\n\t"
        "ldrd   %[at], %[left], [%[facts]]\n"
        "2:\n\t"
        "ldr    r0, [%[facts], #8]\n\t"
        "dls    lr, r0\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t vldrw.u32 q4, [%[at]], #16\n\t" ROWS(START, "q3", "q4")
        "3:\n\t"
        "vldrw.u32 q3, [%[at]], #16\n\t vldrw.u32 q4, [%[at]], #16\n\t" ROWS(ADD, "q3", "q4")
        "le     lr, 3b\n\t"
        "vldrh.u32 q0, [%[scales]], #8\n\t"
        "vmov   q4[2], q4[0], r0, r4\n\t vmov q4[3], q4[1], r2, r6\n\t"
        "vcvtb.f32.f16 q0, q0\n\t"
        "vcvt.f32.s32 q4, q4, #4\n\t"
        "subs   %[left], #1\n\t"
        "vmul.f32 q4, q4, q0\n\t"
        "vadd.f32 q1, q1, q4\n\t"
        "bne    2b\n\t"
        "ldr    r0, [%[facts], #12]\n\t"
        "subs   %[groups], #1\n\t"
        "vmul.f32 q1, q1, r0\n\t"
        "vstrw.32 q1, [%[y]], #16\n\t"
        "bne    1b"
        : [rows] "+r"(rows), [groups] "+r"(groups), [scales] "+l"(scales), [y] "+r"(y), [at] "=&r"(at), [left] "=&r"(left)
        : [facts] "r"(facts)
        : "r0", "r2", "r4", "r6", "lr", "q0", "q1", "q3", "q4", "q5", "q6", "q7", "cc", "memory");
}

static inline void connect_block_groups(const uint8_t *rows, size_t groups, const block_facts *facts,
                                        const uint16_t *scales, float *y) {
    if (groups == 0) return;
    if (facts->more) {
        connect_large_blocks(rows, groups, facts, scales, y);
    } else {
        connect_small_blocks(rows, groups, facts->x, facts->blocks, edge_bits_float(facts->factor), scales, y);
    }
}

/* All rows; the last group's are there, but not all their places in y. */
EDGE_PART void connect_blocks(const uint8_t *rows, size_t count, const block_facts *facts, const uint16_t *scales,
                              float *y) {
    size_t whole = count / EDGE_GROUP, rest = count % EDGE_GROUP, blocks = facts->blocks;
    connect_block_groups(rows, whole, facts, scales, y);
    if (rest) {
        float last[EDGE_GROUP];
        rows += whole * EDGE_GROUP * blocks * (facts->more + 1) * EDGE_LANES;
        connect_block_groups(rows, 1, facts, scales + whole * EDGE_GROUP * blocks, last);
        __builtin_memcpy(y + whole * EDGE_GROUP, last, rest * sizeof *y);
    }
}

void edge_fully_connected_int4_mve(const float *x, float *y, const uint16_t *weights, const float *scales,
                                   const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                                   size_t block, size_t count, void *workspace) {
    size_t vectors = (columns + VECTOR_COLUMNS - 1) / VECTOR_COLUMNS, whole = rows / EDGE_GROUP, rest = rows % EDGE_GROUP;
    const uint8_t *packed = (const void *)weights, *last = packed + whole * EDGE_GROUP * vectors * EDGE_LANES;
    int8_t *integers = workspace;
    for (; count--; x += columns, y += rows) {
        edge_clear_vector_mve(integers + vectors * VECTOR_COLUMNS - EDGE_LANES);
        float factor = edge_quantize_mve(x, columns, integers);
        if (block) {
            block_facts facts = {integers, columns / block, block / VECTOR_COLUMNS - 1, edge_float_bits(factor)};
            connect_blocks(packed, rows, &facts, block_scales, y);
        } else {
            connect_groups(packed, whole, integers, vectors, factor, scales, y);
            if (rest)
                connect_rest(last, rest, integers, vectors, factor, scales + whole * EDGE_GROUP, y + whole * EDGE_GROUP);
        }
        if (bias) edge_add_bias_mve(bias, y, rows);
    }
}
