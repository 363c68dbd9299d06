/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Armv6-M: two products by one multiplication. firmware_tools/ops/fully_connected_bfp.py explains words and layouts.
 * fully_connected_bfp_v6m.c and fully_connected_bfp_pair.c say who computes the groups of rows. */
#ifndef EDGE_FULLY_CONNECTED_BFP_CORE_V6M_H
#define EDGE_FULLY_CONNECTED_BFP_CORE_V6M_H

#include "bfp.h"
#include "fully_connected_bfp.h"

/* What the loops over groups of 4 rows know. The assembly reads it by these offsets. */
typedef struct {
    const void *weights;    /* 0 */
    const uint32_t *x;      /* 4: a word for two columns */
    const uint32_t *x_end;  /* 8 */
    int32_t offset;         /* 12: of every dot: how many even x are negative, less 128 times the sum of all */
    int32_t *y;             /* 16: advances */
    const int32_t *y_end;   /* 20 */
    const uint16_t *scales; /* 24: advances */
    int32_t factor;         /* 28: of the row x */
    uint32_t entry;         /* 32: bytes of the loop that a group's first turn leaves out; then where it starts */
    int32_t drop;           /* 36 */
    uint32_t mask;          /* 40 */
    uint32_t frame;         /* 44: r7, which clang keeps for itself, stays here meanwhile */
} edge_job;

/* A row of x as words x0 + x1 * 2^16, and the offset that dots need. */
EDGE_BFP_PART edge_bfp_scale edge_quantize(const int32_t *x, size_t columns, uint32_t *words, int32_t *offset) {
    const int32_t *m = x + 1, *end = m + columns / 2 * 2;
    edge_bfp_scale scale = edge_bfp_find_scale(edge_bfp_largest(m, columns), x[0]);
    int32_t sum = 0, negative = 0;
    if (m != end)
        __asm__ volatile(
            EDGE_UNIFIED "1:\n\t"
            "ldmia  %[m]!, {r3, r4}\n\t"
            "asrs   r3, %[down]\n\t muls r3, %[reciprocal]\n\t add r3, %[half]\n\t asrs r3, r3, #23\n\t"
            "asrs   r4, %[down]\n\t muls r4, %[reciprocal]\n\t add r4, %[half]\n\t asrs r4, r4, #23\n\t"
            "add    %[sum], r3\n\t add %[sum], r4\n\t"
            "lsls   r5, r4, #16\n\t adds r5, r5, r3\n\t"
            "stmia  %[words]!, {r5}\n\t"
            "lsrs   r3, r3, #31\n\t add %[negative], r3\n\t"
            "cmp    %[m], %[end]\n\t"
            "bne    1b"
            : [m] "+&l"(m), [words] "+&l"(words), [sum] "+&h"(sum), [negative] "+&h"(negative)
            : [down] "l"(scale.down), [reciprocal] "l"(scale.reciprocal), [half] "h"(1 << 22), [end] "h"(end)
            : "r3", "r4", "r5", "cc", "memory");
    if (columns % 2) {
        int32_t last = edge_bfp_quantized(*m, scale);
        *words++ = (uint32_t)last;
        sum += last, negative += (int32_t)((uint32_t)last >> 31);
    }
    if ((columns + 1) / 2 % 2) *words = 0;
    *offset = negative - 128 * sum;
    return scale;
}

/* One row's dot in its register becomes y: dot * ((factor * scale) >> 16) in 2^-down, rounded down. */
#define EDGE_FINISH(dot, row, low, down)                                                                       \
    "mov r2, " dot "\n\t ldrh r3, [r6, #2 * " row "]\n\t muls r3, r1\n\t lsrs r3, r3, #16\n\t"                  \
    "asrs r5, r2, #" down "\n\t muls r5, r3\n\t " low " r2, r2\n\t muls r2, r3\n\t lsrs r2, r2, #" down "\n\t" \
    "adds r5, r5, r2\n\t str r5, [r7, #4 * " row "]\n\t"
#define EDGE_FINISH_GROUP(low, down)                                                \
    EDGE_FINISH("r8", "0", low, down) EDGE_FINISH("r9", "1", low, down)             \
    EDGE_FINISH("r10", "2", low, down) EDGE_FINISH("r11", "3", low, down)

/* All groups of a job: dots in r8 to r11, words of x and weights behind r1 and r0, the job in lr. The loop holds as many
 * blocks as a branch reaches; that a row's blocks are no multiple of those is made good by where a group enters it. */
#define EDGE_GROUPS(blocks)                                                                                           \
    EDGE_UNIFIED "str r7, [r0, #44]\n\t mov lr, r0\n\t adr r2, 1f\n\t ldr r1, [r0, #32]\n\t adds r1, r1, r2\n\t str r1, [r0, #32]\n\t"                   \
    "ldr r1, [r0, #8]\n\t mov r12, r1\n\t ldr r4, [r0, #40]\n\t ldr r0, [r0]\n"                                       \
    "0:\n\t mov r7, lr\n\t ldr r1, [r7, #4]\n\t ldr r2, [r7, #12]\n\t mov r8, r2\n\t mov r9, r2\n\t mov r10, r2\n\t"  \
    "mov r11, r2\n\t ldr r2, [r7, #32]\n\t mov pc, r2\n\t .p2align 2\n"                                               \
    "1:\n\t" blocks "cmp r1, r12\n\t bne 1b\n\t"                                                                      \
    "mov r7, lr\n\t ldr r6, [r7, #24]\n\t ldr r1, [r7, #28]\n\t ldr r2, [r7, #36]\n\t ldr r7, [r7, #16]\n\t"          \
    "cmp r2, #8\n\t bne 2f\n\t" EDGE_FINISH_GROUP("uxtb", "8") "b 3f\n"                                               \
    "2:\n\t" EDGE_FINISH_GROUP("uxth", "16")                                                                          \
    "3:\n\t mov r5, lr\n\t adds r7, #16\n\t str r7, [r5, #16]\n\t adds r6, #8\n\t str r6, [r5, #24]\n\t"              \
    "ldr r5, [r5, #20]\n\t cmp r7, r5\n\t beq 4f\n\t b 0b\n4:\n\t mov r0, lr\n\t ldr r7, [r0, #44]\n"

/* Two columns (x) of two rows, whose bytes v holds: 4 products. Armv7-M shifts what it adds; both take as many bytes. */
#ifdef __ARM_ARCH_6M__
#define EDGE_WORD(v, x, first, second)                                            \
    "lsrs r5, " v ", #8\n\t ands " v ", r4\n\t ands r5, r4\n\t"                   \
    "muls " v ", " x "\n\t asrs " v ", " v ", #16\n\t add " first ", " v "\n\t"   \
    "muls r5, " x "\n\t asrs r5, r5, #16\n\t add " second ", r5\n\t"
#else
#define EDGE_WORD(v, x, first, second)                                                   \
    "and.w  r5, r4, " v ", lsr #8\n\t ands " v ", r4\n\t muls " v ", " x "\n\t muls r5, " x "\n\t" \
    "add.w  " first ", " first ", " v ", asr #16\n\t add.w " second ", " second ", r5, asr #16\n\t"
#endif
#define EDGE_HALF_BLOCK(x) \
    "ldmia r0!, {r6, r7}\n\t" EDGE_WORD("r6", x, "r8", "r9") EDGE_WORD("r7", x, "r10", "r11")
#define EDGE_BLOCK "ldmia r1!, {r2, r3}\n\t" EDGE_HALF_BLOCK("r2") EDGE_HALF_BLOCK("r3")
#define EDGE_BLOCK_CODE 78
#define EDGE_BLOCKS 3

/* The same of words that hold two columns of one row. */
#ifdef __ARM_ARCH_6M__
#define EDGE_WIDE(v, x, dot) "muls " v ", " x "\n\t asrs " v ", " v ", #16\n\t add " dot ", " v "\n\t"
#else
#define EDGE_WIDE(v, x, dot) "muls " v ", " x "\n\t add.w " dot ", " dot ", " v ", asr #16\n\t"
#endif
#define EDGE_WIDE_HALF_BLOCK(x)                                                           \
    "ldmia r0!, {r4, r5, r6, r7}\n\t" EDGE_WIDE("r4", x, "r8") EDGE_WIDE("r5", x, "r9")   \
    EDGE_WIDE("r6", x, "r10") EDGE_WIDE("r7", x, "r11")
#define EDGE_WIDE_BLOCK "ldmia r1!, {r2, r3}\n\t" EDGE_WIDE_HALF_BLOCK("r2") EDGE_WIDE_HALF_BLOCK("r3")
#define EDGE_WIDE_BLOCK_CODE 54
#define EDGE_WIDE_BLOCKS 4

#define EDGE_REGISTERS "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"

EDGE_BFP_PART void edge_groups(edge_job *job) {
    register edge_job *first __asm__("r0") = job;
    __asm__ volatile(EDGE_GROUPS(EDGE_BLOCK EDGE_BLOCK EDGE_BLOCK) : "+r"(first) : : EDGE_REGISTERS);
}

EDGE_BFP_PART void edge_wide_groups(edge_job *job) {
    register edge_job *first __asm__("r0") = job;
    __asm__ volatile(EDGE_GROUPS(EDGE_WIDE_BLOCK EDGE_WIDE_BLOCK EDGE_WIDE_BLOCK EDGE_WIDE_BLOCK)
                     : "+r"(first) : : EDGE_REGISTERS);
}

typedef struct {
    void (*groups)(edge_job *job);
    uint32_t blocks, block_code; /* of the loop, and bytes of code of one */
    size_t block_bytes;          /* of weights */
} edge_core;

static const edge_core edge_narrow = {edge_groups, EDGE_BLOCKS, EDGE_BLOCK_CODE, 16};
static const edge_core edge_wide = {edge_wide_groups, EDGE_WIDE_BLOCKS, EDGE_WIDE_BLOCK_CODE, 32};

/* Computes whole groups of rows, one or more, of which each has so many bytes of weights. */
typedef void edge_share(edge_core core, edge_job *job, size_t groups, size_t group_bytes);

static inline void edge_connect(edge_core core, edge_share *share, const int32_t *x, int32_t *y,
                                const edge_bfp_matrix *matrix, uint32_t *words) {
    size_t blocks = (matrix->columns + 3) / 4, whole = matrix->rows / 4, rest = matrix->rows % 4;
    edge_job job = {.weights = matrix->weights, .x = words, .x_end = words + 2 * blocks, .drop = matrix->drop};
    edge_bfp_scale scale = edge_quantize(x, matrix->columns, words, &job.offset);
    uint32_t entry = (core.blocks - 1 - (blocks - 1) % core.blocks) * core.block_code;
    y[0] = scale.exponent + matrix->exponent + 16 + matrix->drop;
    job.y = y + 1, job.y_end = y + 1 + 4 * whole, job.scales = matrix->scales;
    job.factor = scale.factor, job.entry = entry, job.mask = 0x00FF00FF;
    if (whole) share(core, &job, whole, blocks * core.block_bytes);
    if (rest) { /* the last group's rows are there, their scales and places in y are not */
        uint16_t scales[4] = {0};
        int32_t last[4];
        for (size_t r = 0; r < rest; r++) scales[r] = matrix->scales[4 * whole + r];
        job.weights = (const uint8_t *)matrix->weights + whole * blocks * core.block_bytes;
        job.y = last, job.y_end = last + 4, job.scales = scales, job.entry = entry;
        core.groups(&job);
        for (size_t r = 0; r < rest; r++) y[1 + 4 * whole + r] = last[r];
    }
    if (matrix->bias) edge_bfp_add(y, matrix->bias, y, matrix->rows);
}

#endif
