/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_int4.h"

#include "packed4.h"

#define CHUNK 512 /* columns whose sums fit 32 bits */

/* What the sums of a part of the row start from, so that the eights in the nibbles are taken off: 8, 136 and 2184 times
 * the part's sum. */
typedef struct {
    int32_t nibble, byte, halfword;
} starts;

/* Quantizes blocks * 4 floats to the words (x0, x2), (x1, x3), low half first; blocks > 0. Returns their sum. */
static inline int32_t quantize_pairs(const float *x, size_t blocks, float inverse, uint32_t *words) {
    const float *end = x + 4 * blocks;
    int32_t sum = 0;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[x]!, {s0-s3}\n\t"
        "vmul.f32 s0, s0, %[inverse]\n\t vmul.f32 s1, s1, %[inverse]\n\t"
        "vmul.f32 s2, s2, %[inverse]\n\t vmul.f32 s3, s3, %[inverse]\n\t"
        "vadd.f32 s0, s0, %[magic]\n\t vadd.f32 s1, s1, %[magic]\n\t"
        "vadd.f32 s2, s2, %[magic]\n\t vadd.f32 s3, s3, %[magic]\n\t"
        "vmov   r3, r4, s0, s1\n\t"
        "vmov   r5, r6, s2, s3\n\t"
        "pkhbt  r3, r3, r5, lsl #16\n\t"
        "pkhbt  r4, r4, r6, lsl #16\n\t"
        "smlad  %[sum], r3, %[ones], %[sum]\n\t"
        "smlad  %[sum], r4, %[ones], %[sum]\n\t"
        "strd   r3, r4, [%[words]], #8\n\t"
        "cmp    %[x], %[end]\n\t"
        "bne    1b"
        : [x] "+&r"(x), [words] "+&r"(words), [sum] "+&r"(sum)
        : [end] "r"(end), [inverse] "t"(inverse), [magic] "t"(EDGE_ROUND_MAGIC), [ones] "r"(0x00010001)
        : "r3", "r4", "r5", "r6", "s0", "s1", "s2", "s3", "cc", "memory");
    return sum;
}

/* Quantizes the row in parts of `part` columns, each with what its sums start from; returns the scale. */
EDGE_PART float quantize_parts(const float *x, size_t columns, size_t part, uint32_t *words, starts *first) {
    float scale, inverse = edge_inverse_scale(x, columns, &scale);
    for (size_t at = 0; at < columns; at += part, first++) {
        size_t count = columns - at < part ? columns - at : part;
        int32_t sum = count >= 4 ? quantize_pairs(x + at, count / 4, inverse, words) : 0;
        words += count / 4 * 2;
        if (count % 4) { /* only where the row ends */
            float last[4] = {0};
            for (size_t j = 0; j < count % 4; j++) last[j] = x[at + count / 4 * 4 + j];
            sum += quantize_pairs(last, 1, inverse, words);
        }
        *first = (starts){-8 * sum, -136 * sum, -2184 * sum};
    }
    return scale;
}

/* A word of two columns by one of the row: r2 += r2's part of it, and so on (packed4.py). */
#define TWO_COLUMNS(word, x)                                                                        \
    "smlad  %[r3], " word ", " x ", %[r3]\n\t"                                                      \
    "and    %[t], %[mask], " word ", lsr #8\n\t"                                                    \
    "smlad  %[r2], %[t], " x ", %[r2]\n\t"                                                          \
    "uxtb16 " word ", " word "\n\t"                                                                 \
    "smlad  %[r1], " word ", " x ", %[r1]\n\t"                                                      \
    "and    " word ", " word ", %[mask]\n\t"                                                        \
    "smlad  %[r0], " word ", " x ", %[r0]\n\t"
#define FOUR_COLUMNS                                                                                \
    "ldrd   %[w0], %[w1], [%[group]], #8\n\t"                                                       \
    "ldrd   %[x0], %[x1], [%[words]], #8\n\t" TWO_COLUMNS("%[w0]", "%[x0]") TWO_COLUMNS("%[w1]", "%[x1]")

/* Leaves the dots of a part of the row with the group's rows in s0 to s3, exactly: VCVT divides by 16 and 4096 on the way.
 * The registers named here are all there are beside the frame pointer, so whatever else a loop needs waits in float
 * registers, pointers too. */
#define DOTS                                                                                        \
    "sub    %[r3], %[r3], %[r1]\n\t"                                                                \
    "sub    %[r3], %[r3], %[r2], lsl #8\n\t"                                                        \
    "sub    %[r1], %[r1], %[r0]\n\t"                                                                \
    "vmov   s0, s1, %[r0], %[r1]\n\t"                                                               \
    "vmov   s2, s3, %[r2], %[r3]\n\t"                                                               \
    "vcvt.f32.s32 s0, s0\n\t vcvt.f32.s32 s1, s1, #4\n\t"                                           \
    "vcvt.f32.s32 s2, s2\n\t vcvt.f32.s32 s3, s3, #12\n\t"
#define REGISTERS                                                                                   \
    [group] "+&r"(weights), [words] "+&r"(words), [end] "+&r"(end), [r0] "=&r"(r0), [r1] "=&r"(r1), [r2] "=&r"(r2), \
    [r3] "=&r"(r3), [w0] "=&r"(w0), [w1] "=&r"(w1), [x0] "=&r"(x0), [x1] "=&r"(x1), [t] "=&r"(t)
/* What the sums of a part start from: `starts` is a float register that points to it. */
#define START                                                                                       \
    "vmov   %[t], %[starts]\n\t"                                                                    \
    "ldrd   %[r0], %[r1], [%[t]], #8\n\t"                                                           \
    "ldr    %[r3], [%[t]], #4\n\t"                                                                  \
    "mov    %[r2], %[r0]\n\t"

static inline float in_float(const void *pointer) { return edge_bits_float((uint32_t)(uintptr_t)pointer); }

/* y[rows] = dot * (scale * scales) for whole groups of rows (at least one) with a part that is a whole row of at most CHUNK
 * columns. */
EDGE_PART void connect_rows(const uint16_t *weights, const uint32_t *words, const starts *first, size_t blocks,
                            const float *scales, float scale, size_t groups, float *y) {
    const uint32_t *end = words + 2 * blocks;
    uint32_t r0, r1, r2, r3, w0, w1, x0, x1, t;
    float scales_at = in_float(scales), y_at = in_float(y), y_end = in_float(y + 4 * groups);
    __asm__ volatile(
        "0:\n\t" START
        "vmov   %[t], %[columns]\n\t"
        "sub    %[words], %[end], %[t], lsl #3\n\t"
        "tst    %[t], #1\n\t"
        "bne    2f\n"
        "1:\n\t" FOUR_COLUMNS
        "2:\n\t" FOUR_COLUMNS
        "cmp    %[words], %[end]\n\t"
        "bne    1b\n\t" DOTS
        "vmov   %[w0], %[scales]\n\t vmov %[w1], %[y]\n\t"
        "vldmia %[w0]!, {s4-s7}\n\t"
        "vmul.f32 s4, %[scale], s4\n\t vmul.f32 s5, %[scale], s5\n\t"
        "vmul.f32 s6, %[scale], s6\n\t vmul.f32 s7, %[scale], s7\n\t"
        "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t"
        "vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
        "vstmia %[w1]!, {s0-s3}\n\t"
        "vmov   %[scales], %[w0]\n\t"
        "vmov   %[y], %[w1]\n\t"
        "vmov   %[w0], %[y_end]\n\t"
        "cmp    %[w0], %[w1]\n\t"
        "bne    0b\n\t"
        : REGISTERS, [scales] "+&t"(scales_at), [y] "+&t"(y_at)
        : [mask] "r"(0x000F000F), [scale] "t"(scale), [starts] "t"(in_float(first)), [y_end] "t"(y_end),
          [columns] "t"(edge_bits_float((uint32_t)blocks))
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cc", "memory");
}

/* The same for rows of any length: the dots of chunks are integers that floats add exactly. */
EDGE_PART void connect_long_rows(const uint16_t *weights, const uint32_t *words, const starts *first, size_t columns,
                              const float *scales, float scale, size_t rows, float *y) {
    float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f}, dots[4];
    for (size_t n = 0; n < rows; n += 4) {
        float sums[4] = {0};
        const uint32_t *at = words;
        const starts *chunk = first;
        for (size_t done = 0; done < columns; done += CHUNK) {
            size_t blocks = edge_blocks(columns - done < CHUNK ? columns - done : CHUNK);
            connect_rows(weights, at, chunk++, blocks, ones, 1.0f, 1, dots);
            for (size_t r = 0; r < 4; r++) sums[r] += dots[r];
            weights += 4 * blocks;
            at += 2 * blocks;
        }
        for (size_t r = 0; r < 4 && n + r < rows; r++) y[n + r] = sums[r] * (scale * scales[n + r]);
    }
}

/* Rows with a scale each; the last group's rows are there, their scales and places in y are not. */
static void connect_whole(const uint16_t *weights, const uint32_t *words, const starts *first, size_t columns,
                          const float *scales, float scale, size_t rows, float *y) {
    size_t blocks = edge_blocks(columns), whole = rows / 4;
    if (columns > CHUNK) {
        connect_long_rows(weights, words, first, columns, scales, scale, rows, y);
        return;
    }
    if (whole) connect_rows(weights, words, first, blocks, scales, scale, whole, y);
    if (rows % 4) {
        float last_scales[4] = {0}, last[4];
        for (size_t r = 0; r < rows % 4; r++) last_scales[r] = scales[4 * whole + r];
        connect_rows(weights + whole * blocks * 4, words, first, blocks, last_scales, scale, 1, last);
        for (size_t r = 0; r < rows % 4; r++) y[4 * whole + r] = last[r];
    }
}

/* Rows with a scale for each block of columns, a multiple of 16: dot times scale, added up first to last. */
EDGE_PART void connect_blocks(const uint16_t *weights, const uint32_t *row, const starts *first, size_t columns,
                              size_t block, const uint16_t *block_scales, float scale, size_t rows, float *y) {
    float scales_at = in_float(block_scales), bytes = edge_bits_float((uint32_t)(2 * block));
    for (size_t n = 0; n < rows; n += 4) {
        const uint32_t *words = row, *end = row;
        uint32_t r0, r1, r2, r3, w0, w1, x0, x1, t;
        float starts_at = in_float(first), sums[4] = {0};
        register float s8 __asm__("s8") = 0, s9 __asm__("s9") = 0, s10 __asm__("s10") = 0, s11 __asm__("s11") = 0;
        __asm__ volatile(
            "0:\n\t" START
            "vmov   %[starts], %[t]\n\t"
            "vmov   %[t], %[bytes]\n\t"
            "add    %[end], %[end], %[t]\n"
            "1:\n\t" FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS
            "cmp    %[words], %[end]\n\t"
            "bne    1b\n\t" DOTS
            "vmov   %[w0], %[scales]\n\t vmov %[w1], %[last]\n\t"
            "vldmia %[w0]!, {s4-s5}\n\t"
            "vmov   %[scales], %[w0]\n\t"
            "vcvtb.f32.f16 s6, s5\n\t vcvtt.f32.f16 s7, s5\n\t"
            "vcvtt.f32.f16 s5, s4\n\t vcvtb.f32.f16 s4, s4\n\t"
            "vmul.f32 s0, s0, s4\n\t vmul.f32 s1, s1, s5\n\t"
            "vmul.f32 s2, s2, s6\n\t vmul.f32 s3, s3, s7\n\t"
            "vadd.f32 s8, s8, s0\n\t vadd.f32 s9, s9, s1\n\t"
            "vadd.f32 s10, s10, s2\n\t vadd.f32 s11, s11, s3\n\t"
            "cmp    %[words], %[w1]\n\t"
            "bne    0b\n\t"
            : REGISTERS, [scales] "+&t"(scales_at), [starts] "+&t"(starts_at), "+t"(s8), "+t"(s9), "+t"(s10), "+t"(s11)
            : [mask] "r"(0x000F000F), [bytes] "t"(bytes), [last] "t"(in_float(row + columns / 2))
            : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cc", "memory");
        sums[0] = s8, sums[1] = s9, sums[2] = s10, sums[3] = s11;
        for (size_t r = 0; r < 4 && n + r < rows; r++) y[n + r] = sums[r] * scale;
    }
}

void edge_fully_connected_int4_dsp(const float *x, float *y, const uint16_t *weights, const float *scales,
                                   const uint16_t *block_scales, const float *bias, size_t rows, size_t columns,
                                   size_t block, size_t count, void *workspace) {
    uint32_t *words = workspace;
    starts *first = (void *)(words + 2 * edge_blocks(columns));
    for (; count--; x += columns, y += rows) {
        float scale = quantize_parts(x, columns, block ? block : CHUNK, words, first);
        if (block)
            connect_blocks(weights, words, first, columns, block, block_scales, scale, rows, y);
        else
            connect_whole(weights, words, first, columns, scales, scale, rows, y);
        if (bias) {
            EDGE_ROLLED
            for (size_t n = 0; n < rows; n++) y[n] += bias[n];
        }
    }
}
