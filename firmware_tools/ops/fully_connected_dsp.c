/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Int8 dot products by SMLAD, of one token and of three at once; firmware_tools/packed.py explains the arithmetic. Three
 * tokens with 2 rows of weights fill the registers: each word of weights is loaded and taken apart once for them, 17
 * instructions for 24 products, where one token takes 14 for 16. */
#include "fully_connected_s8.h"
#include "packed_dsp.h"

#define CHUNK 64  /* blocks whose sums fit 32 bits whatever the bytes are: 256 columns of at most 345 */
#define TOKENS 3u /* of a tile */

EDGE_QUANTIZER(quantize_blocks, EDGE_TWO_WORDS "strd   r4, r5, [%[words]], #8\n\t")
EDGE_QUANTIZER(quantize_tile_blocks, EDGE_TWO_WORDS "str    r4, [%[words]], #12\n\t str    r5, [%[words]], #12\n\t")

static edge_row quantize(const float *x, size_t count, uint32_t *words) {
    edge_row row;
    float inverse = edge_inverse_of(edge_largest_dsp(x, count), &row.scale);
    row.even_sum = edge_quantize_row(quantize_blocks, x, count, inverse, words, 2);
    return row;
}

/* The loops below need 13 registers, all but the frame pointer, so they name them: LDM takes a block of 4 rows by 4
 * columns into r4, r5, r6 and r8; r3, r9, r10 and r11 are the sums of the rows. */
#define DOTS_BLOCK                                                                                  \
    "ldrd   r12, lr, [r1], #8\n\t"                                                                  \
    "ldmia  r0!, {r4, r5, r6, r8}\n\t"                                                              \
    "smlad  r3, r4, r12, r3\n\t smlad  r9, r5, r12, r9\n\t"                                         \
    "smlad  r10, r6, r12, r10\n\t smlad  r11, r8, r12, r11\n\t"                                     \
    "uxtb16 r4, r4\n\t uxtb16 r5, r5\n\t uxtb16 r6, r6\n\t uxtb16 r8, r8\n\t"                       \
    "smlad  r3, r4, lr, r3\n\t smlad  r9, r5, lr, r9\n\t"                                           \
    "smlad  r10, r6, lr, r10\n\t smlad  r11, r8, lr, r11\n\t"

#define DOTS_BLOCK_BYTES "56" /* of code: 14 instructions, all of 4 bytes */

/* Pushes what each group starts from: words in r1, blocks in r2, the value in r3 for all four sums, and in lr where so
 * many blocks enter the loop of DOTS_GROUP, so that its last round is full. */
#define DOTS_PUSH                                                                                   \
    "rsb    lr, r2, #0\n\t"                                                                         \
    "and    lr, lr, #15\n\t"                                                                         \
    "mov    r9, #" DOTS_BLOCK_BYTES "\n\t"                                                          \
    "mul    lr, lr, r9\n\t"                                                                         \
    "adr    r9, 1f\n\t"                                                                             \
    "add    lr, lr, r9\n\t"                                                                         \
    "orr    lr, lr, #1\n\t" /* Thumb */                                                             \
    "mov    r9, r3\n\t mov r10, r3\n\t mov r11, r3\n\t"                                             \
    "push   {r1, r2, r3, r9, r10, r11, lr}\n"

/* The sums of a group of 4 rows; r0 moves behind it. */
#define DOTS_GROUP                                                                                  \
    "ldmia  sp, {r1, r2, r3, r9, r10, r11, pc}\n\t"                                                 \
    ".balign 4\n"                                                                                   \
    "1:\n\t" DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK                                            \
    DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK         \
    DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK DOTS_BLOCK                                                     \
    "subs   r2, #16\n\t"                                                                             \
    "bgt    1b\n\t"

/* y[4 * groups] = dot * (factor * scale), of rows in at most CHUNK blocks. VCVT divides the sums by 256 on the way; they
 * start with what the 128 of even columns add too much. */
EDGE_PART void scaled_dots(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, edge_row row,
                           const float *scales, float *y) {
    if (groups == 0) return;
    register const uint8_t *r0 __asm__("r0") = rows;
    register const uint32_t *r1 __asm__("r1") = words;
    register size_t r2 __asm__("r2") = blocks;
    register int32_t r3 __asm__("r3") = -128 * 256 * row.even_sum;
    register const float *r4 __asm__("r4") = scales;
    register float *r5 __asm__("r5") = y, *r6 __asm__("r6") = y + 4 * groups;
    register float s8 __asm__("s8") = row.scale;
    __asm__ volatile(
        "push   {r4, r5, r6}\n\t" DOTS_PUSH
        "0:\n\t" DOTS_GROUP
        "vmov   s0, s1, r3, r9\n\t vmov   s2, s3, r10, r11\n\t"
        "vcvt.f32.s32 s0, s0, #8\n\t vcvt.f32.s32 s1, s1, #8\n\t"
        "vcvt.f32.s32 s2, s2, #8\n\t vcvt.f32.s32 s3, s3, #8\n\t"
        "ldrd   r4, r5, [sp, #28]\n\t"
        "vldmia r4!, {s4-s7}\n\t"
        "vmul.f32 s4, s8, s4\n\t vmul.f32 s5, s8, s5\n\t vmul.f32 s6, s8, s6\n\t vmul.f32 s7, s8, s7\n\t"
        "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
        "ldr    r6, [sp, #36]\n\t"
        "vstmia r5!, {s0-s3}\n\t"
        "strd   r4, r5, [sp, #28]\n\t"
        "cmp    r5, r6\n\t"
        "bne    0b\n\t"
        "add    sp, #40"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6)
        : "t"(s8)
        : "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cc", "memory");
}

/* Adds a chunk of columns to dots[4 * groups]; groups > 0. A group's rows go on for skip bytes after the chunk. */
static inline void add_chunk(const uint8_t *rows, const uint32_t *words, uint32_t blocks, edge_int *dots,
                                  uint32_t groups, uint32_t skip) {
    register const uint8_t *r0 __asm__("r0") = rows;
    register const uint32_t *r1 __asm__("r1") = words;
    register uint32_t r2 __asm__("r2") = blocks, r3 __asm__("r3") = 0;
    register edge_int *r4 __asm__("r4") = dots;
    register uint32_t r5 __asm__("r5") = groups, r6 __asm__("r6") = skip;
    __asm__ volatile(
        "push   {r4, r5, r6}\n\t" DOTS_PUSH
        "0:\n\t" DOTS_GROUP
        "ldr    r1, [sp, #28]\n\t"
        "ldmia  r1, {r4, r5, r6, r8}\n\t"
        "add    r4, r4, r3, asr #8\n\t"
        "add    r5, r5, r9, asr #8\n\t"
        "add    r6, r6, r10, asr #8\n\t"
        "add    r8, r8, r11, asr #8\n\t"
        "stmia  r1!, {r4, r5, r6, r8}\n\t"
        "ldrd   r2, r4, [sp, #32]\n\t"
        "add    r0, r0, r4\n\t"
        "subs   r2, #1\n\t"
        "strd   r1, r2, [sp, #28]\n\t"
        "bne    0b\n\t"
        "add    sp, #40"
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6)
        :
        : "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

EDGE_PART void long_dots(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, int32_t even_sum,
                             edge_int *dots) {
    for (size_t i = 0; i < 4 * groups; i++) dots[i] = -128 * even_sum;
    for (size_t first = 0; groups > 0 && first < blocks; first += CHUNK) {
        size_t chunk = blocks - first < CHUNK ? blocks - first : CHUNK;
        add_chunk(rows + first * EDGE_BLOCK_BYTES, words + 2 * first, chunk, dots, groups,
                       (blocks - chunk) * EDGE_BLOCK_BYTES);
    }
}

/* scaled_dots of any number of columns */
static void scaled_long_dots(const uint8_t *rows, size_t groups, const uint32_t *words, size_t blocks, edge_row row,
                             const float *scales, float *y) {
    long_dots(rows, groups, words, blocks, row.even_sum, (edge_int *)y);
    edge_scale_dots(y, 4 * groups, row.scale, scales);
}

/* A block of 4 columns of 2 rows, in r10 and r11, with 3 tokens; the sums are in r3 to r5 and in r6, r8 and r9. */
#define TILE_BLOCK                                                                                  \
    "ldrd   r10, r11, [r0], #16\n\t"                                                                \
    "ldmia  r1!, {r7, r12, lr}\n\t"                                                                 \
    "smlad  r3, r10, r7, r3\n\t smlad  r4, r10, r12, r4\n\t smlad  r5, r10, lr, r5\n\t"             \
    "smlad  r6, r11, r7, r6\n\t smlad  r8, r11, r12, r8\n\t smlad  r9, r11, lr, r9\n\t"             \
    "uxtb16 r10, r10\n\t uxtb16 r11, r11\n\t"                                                       \
    "ldmia  r1!, {r7, r12, lr}\n\t"                                                                 \
    "smlad  r3, r10, r7, r3\n\t smlad  r4, r10, r12, r4\n\t smlad  r5, r10, lr, r5\n\t"             \
    "smlad  r6, r11, r7, r6\n\t smlad  r8, r11, r12, r8\n\t smlad  r9, r11, lr, r9\n\t"

#define TILE_BLOCK_BYTES "68" /* of code: 17 instructions, all of 4 bytes */

/* What a group of rows starts from and goes on with; the assembly keeps it on its stack. */
typedef struct {
    const uint32_t *words;
    uint32_t blocks;
    int32_t starts[2 * TOKENS]; /* of each token's sums, for both rows */
    uint32_t entry;             /* where so many blocks enter the loop, so that its last round is full */
    const float *scales;
    float *y, *end;
    uint32_t stride_bytes, to_second, to_next; /* from a token's y to the next; from the end of 2 rows to the next 2 */
} tile;

/* y[tokens][rows in pairs] = dot * (factor * scale), a token's y going on for stride_bytes. */
EDGE_PART void scaled_tile_dots(const uint8_t *rows, const float *factors, tile *state) {
    register const uint8_t *r0 __asm__("r0") = rows;
    register const float *r1 __asm__("r1") = factors;
    register tile *r2 __asm__("r2") = state;
    __asm__ volatile(
        "vldmia r1, {s13-s15}\n\t"
        "push   {r7}\n\t"
        "ldr    r3, [r2, #4]\n\t"
        "rsb    r3, r3, #0\n\t"
        "and    r3, r3, #3\n\t"
        "mov    r4, #" TILE_BLOCK_BYTES "\n\t"
        "mul    r3, r3, r4\n\t"
        "adr    r4, 1f\n\t"
        "add    r3, r3, r4\n\t"
        "orr    r3, r3, #1\n\t" /* Thumb */
        "str    r3, [r2, #32]\n\t"
        "add    r1, r2, #36\n\t"
        "ldmia  r1, {r3, r4, r5, r6, r8, r9}\n\t"
        "push   {r3, r4, r5, r6, r8, r9}\n\t"
        "ldmia  r2, {r1, r2, r3, r4, r5, r6, r8, r9, r10}\n\t"
        "push   {r1, r2, r3, r4, r5, r6, r8, r9, r10}\n"
        "0:\n\t"
        "ldmia  sp, {r1, r2, r3, r4, r5, r6, r8, r9, pc}\n\t"
        ".balign 4\n"
        "1:\n\t" TILE_BLOCK TILE_BLOCK TILE_BLOCK TILE_BLOCK
        "subs   r2, #4\n\t"
        "bgt    1b\n\t"
        "vmov   s0, s1, r3, r6\n\t vmov   s2, s3, r4, r8\n\t vmov   s4, s5, r5, r9\n\t"
        "add    r10, sp, #36\n\t"
        "ldmia  r10, {r1, r2, r3, r4, r5, r6}\n\t"
        "vcvt.f32.s32 s0, s0, #8\n\t vcvt.f32.s32 s1, s1, #8\n\t vcvt.f32.s32 s2, s2, #8\n\t"
        "vcvt.f32.s32 s3, s3, #8\n\t vcvt.f32.s32 s4, s4, #8\n\t vcvt.f32.s32 s5, s5, #8\n\t"
        "vldmia r1!, {s6-s7}\n\t"
        "vmul.f32 s8, s13, s6\n\t vmul.f32 s9, s13, s7\n\t vmul.f32 s10, s14, s6\n\t"
        "vmul.f32 s11, s14, s7\n\t vmul.f32 s6, s15, s6\n\t vmul.f32 s7, s15, s7\n\t"
        "vmul.f32 s0, s0, s8\n\t vmul.f32 s1, s1, s9\n\t vmul.f32 s2, s2, s10\n\t"
        "vmul.f32 s3, s3, s11\n\t vmul.f32 s4, s4, s6\n\t vmul.f32 s5, s5, s7\n\t"
        "add    r8, r2, r4\n\t"
        "vstmia r2!, {s0-s1}\n\t"
        "vstmia r8, {s2-s3}\n\t"
        "add    r8, r8, r4\n\t"
        "vstmia r8, {s4-s5}\n\t"
        "add    r0, r0, r5\n\t"
        "cmp    r2, r3\n\t"
        "strd   r1, r2, [sp, #36]\n\t strd   r6, r5, [sp, #52]\n\t"
        "bne    0b\n\t"
        "add    sp, #60\n\t"
        "pop    {r7}"
        : "+r"(r0), "+r"(r1), "+r"(r2)
        :
        : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
          "s8", "s9", "s10", "s11", "s13", "s14", "s15", "cc", "memory");
}

static void connect_tile(const float *x, float *y, const int8_t *weights, const float *scales, const float *bias,
                         size_t rows, size_t columns, uint32_t *words) {
    uint32_t blocks = edge_blocks(columns), group_bytes = blocks * EDGE_BLOCK_BYTES, whole = rows & ~(size_t)3;
    float factors[TOKENS];
    tile state = {words, blocks, {0}, 0, scales, y, y + whole, 4 * rows, 8 - group_bytes, (uint32_t)-8};
    for (size_t t = 0; t < TOKENS; t++, x += columns) {
        float inverse = edge_inverse_of(edge_largest_dsp(x, columns), factors + t);
        int32_t even_sum = edge_quantize_row(quantize_tile_blocks, x, columns, inverse, words + t, 2 * TOKENS);
        state.starts[t] = state.starts[TOKENS + t] = -128 * 256 * even_sum;
    }
    if (whole) scaled_tile_dots((const uint8_t *)weights, factors, &state);
    if (rows > whole) { /* the last group's rows are there, their scales and places in y are not */
        float last_scales[4] = {0}, last[TOKENS][4];
        for (size_t r = whole; r < rows; r++) last_scales[r - whole] = scales[r];
        state.scales = last_scales, state.y = last[0], state.end = last[1], state.stride_bytes = sizeof *last;
        scaled_tile_dots((const uint8_t *)weights + whole / 4 * group_bytes, factors, &state);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t r = whole; r < rows; r++) y[t * rows + r] = last[t][r - whole];
    }
    for (size_t t = 0; bias && t < TOKENS; t++, y += rows) {
        EDGE_ROLLED
        for (size_t n = 0; n < rows; n++) y[n] += bias[n];
    }
}

void edge_fully_connected_s8_dsp(const float *x, float *y, const int8_t *weights, const float *scales,
                                 const float *bias, size_t rows, size_t columns, size_t count, void *workspace) {
    edge_core core = {quantize, scaled_dots};
    for (; count >= TOKENS; count -= TOKENS, x += TOKENS * columns, y += TOKENS * rows)
        connect_tile(x, y, weights, scales, bias, rows, columns, workspace);
    edge_connect_s8(core, x, y, weights, scales, bias, rows, columns, count, workspace);
}

void edge_fully_connected_s8_dsp_long(const float *x, float *y, const int8_t *weights, const float *scales,
                                      const float *bias, size_t rows, size_t columns, size_t count, void *workspace) {
    edge_core core = {quantize, scaled_long_dots};
    edge_connect_s8(core, x, y, weights, scales, bias, rows, columns, count, workspace);
}
