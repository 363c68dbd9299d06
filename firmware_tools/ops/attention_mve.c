/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Attention with an int8 cache on a core with Helium; attention.py gives the arithmetic and the layout of the cache. */
#include "attention.h"

#include "attention_mve.h"
#include "exp2_table.h"

/* One kv head's part of the cache. Values lie in parts of 8 positions, dimension after dimension. */
typedef struct {
    int8_t *keys, *values;
    uint8_t *key_scales, *value_scales;
    uint16_t *base;
} kv_head;

INLINED size_t slots_of(const edge_attention_shape *shape) { return (shape->context + PART - 1) / PART * PART; }

INLINED kv_head find_kv_head(const edge_attention_shape *shape, size_t head_dim, void *cache, size_t g) {
    size_t slots = slots_of(shape), columns = padded(head_dim), bytes = slots * columns;
    int8_t *keys = cache, *values = keys + shape->kv_heads * bytes;
    uint8_t *key_scales = (uint8_t *)values + shape->kv_heads * bytes;
    uint8_t *value_scales = key_scales + shape->kv_heads * slots;
    uint8_t *bases = value_scales + shape->kv_heads * slots;
    return (kv_head){keys + g * bytes, values + g * bytes, key_scales + g * slots, value_scales + g * slots,
                     (uint16_t *)(void *)bases + g * columns};
}

/* max |x| as bits; 8 dimensions are two vectors and no loop. */
INLINED uint32_t largest_of(const float *x, size_t head_dim) {
    if (head_dim != 8) return edge_largest_mve(x, head_dim);
    uint32_t largest = 0;
    __asm__ volatile("vmaxnmav.f32 %[largest], %q[low]\n\t vmaxnmav.f32 %[largest], %q[high]"
                     : [largest] "+r"(largest)
                     : [low] "w"(vld1q_f32(x)), [high] "w"(vld1q_f32(x + 4)));
    return largest;
}

INLINED void round_row(const float *x, size_t head_dim, float inverse, int8_t *to) {
    if (head_dim != 8) {
        edge_round_mve(x, head_dim, inverse, to);
        return;
    }
    vstrbq_s32(to, vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse)));
    vstrbq_s32(to + 4, vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse)));
}

/* edge_inverse_byte of packed.h. */
INLINED float inverse_byte(const float *x, size_t head_dim, uint8_t *byte) {
    float largest = edge_bits_float(largest_of(x, head_dim));
    *byte = edge_scale_byte(largest / 127.0f);
    float scale = edge_byte_scale(*byte);
    int above = largest > scale * 127.0f;
    return (above ? 127.0f : 1.0f) / (above ? largest : scale);
}

/* Rounds a row of values into the place of one position. */
INLINED void scatter(const float *x, size_t count, float inverse, int8_t *to) {
    uint32_t first = 0;
    __asm__ volatile(
        "vidup.u32 q1, %[first], #8\n\t"
        "dlstp.32 lr, %[count]\n"
        "1:\n\t"
        "vldrw.u32 q0, [%[x]], #16\n\t"
        "vmul.f32 q0, q0, %[inverse]\n\t"
        "vcvtn.s32.f32 q0, q0\n\t"
        "vstrb.32 q0, [%[to], q1]\n\t"
        "add    %[to], #32\n\t"
        "letp   lr, 1b"
        : [x] "+r"(x), [to] "+l"(to), [first] "+Te"(first)
        : [count] "r"(count), [inverse] "r"(edge_float_bits(inverse))
        : "q0", "q1", "lr", "cc", "memory");
}

/* relative = key - base */
INLINED void subtract_base(const float *key, const uint16_t *base, size_t count, float *relative) {
    __asm__ volatile(
        "dlstp.32 lr, %[count]\n"
        "1:\n\t"
        "vldrh.u32 q0, [%[base]], #8\n\t"
        "vldrw.u32 q1, [%[key]], #16\n\t"
        "vcvtb.f32.f16 q0, q0\n\t"
        "vsub.f32 q1, q1, q0\n\t"
        "vstrw.32 q1, [%[to]], #16\n\t"
        "letp   lr, 1b"
        : [key] "+r"(key), [base] "+l"(base), [to] "+r"(relative)
        : [count] "r"(count)
        : "q0", "q1", "lr", "cc", "memory");
}

/* Writes one row of keys and values, and their scales. */
INLINED void store(kv_head kv, size_t head_dim, uint32_t position, const float *key, const float *value,
                   float *relative) {
    size_t columns = padded(head_dim);
    if (position == 0) {
        EDGE_ROLLED
        for (size_t d = 0; d < head_dim; d++) kv.base[d] = edge_half_bits(key[d]);
    }
    subtract_base(key, kv.base, head_dim, relative);
    float inverse = inverse_byte(relative, head_dim, kv.key_scales + position);
    round_row(relative, head_dim, inverse, kv.keys + position * columns);
    inverse = inverse_byte(value, head_dim, kv.value_scales + position);
    scatter(value, head_dim, inverse, kv.values + position / PART * PART * columns + position % PART);
}

/* The least and the largest exponent among count scales; as bytes these compare as they are. */
INLINED void find_exponents(const uint8_t *scales, size_t count, uint32_t *least, uint32_t *top) {
    uint32_t low = 255, high = 0;
    __asm__ volatile(
        "vmov.i8 q0, #0\n\t"
        "vmov.i8 q1, #255\n\t"
        "dlstp.8 lr, %[count]\n"
        "1:\n\t"
        "vldrb.u8 q2, [%[scales]], #16\n\t"
        "vmax.u8 q0, q0, q2\n\t"
        "vmin.u8 q1, q1, q2\n\t"
        "letp   lr, 1b\n\t"
        "vmaxv.u8 %[high], q0\n\t"
        "vminv.u8 %[low], q1"
        : [scales] "+r"(scales), [low] "+r"(low), [high] "+r"(high)
        : [count] "r"(count)
        : "q0", "q1", "q2", "lr", "cc", "memory");
    *least = low >> 3;
    *top = high >> 3;
}

#define MOST_SHIFT 11 /* of a mantissa of 4 bits to the right of its place in 15 */

/* factors[count]: scales as integers in 15 bits; up is what an exponent of 0 would be shifted by. */
INLINED void find_factors(const uint8_t *scales, size_t count, int32_t up, uint16_t *factors) {
    __asm__ volatile(
        "dlstp.16 lr, %[count]\n"
        "1:\n\t"
        "vldrb.u16 q0, [%[scales]], #8\n\t"
        "vshr.u16 q1, q0, #3\n\t"
        "vbic.i16 q0, #0xF8\n\t"
        "vadd.i16 q1, q1, %[up]\n\t"
        "vorr.i16 q0, #8\n\t"
        "vshl.u16 q0, q0, q1\n\t"
        "vstrh.16 q0, [%[factors]], #16\n\t"
        "letp   lr, 1b"
        : [scales] "+l"(scales), [factors] "+r"(factors)
        : [count] "r"(count), [up] "r"(up)
        : "q0", "q1", "lr", "cc", "memory");
}

/* Makes integer weights of the scores; returns the sum of e in 2^-16. VQSHL and VSHR make steps of the table of what
 * lies behind the largest score, and keep them within it. */
INLINED uint32_t weigh(int16_t *scores, size_t count, int16_t largest, const uint16_t *factors) {
    uint32_t sum = 0;
    __asm__ volatile(
        "vdup.16 q7, %[largest]\n\t"
        "dlstp.16 lr, %[count]\n"
        "1:\n\t"
        "vldrh.u16 q0, [%[scores]]\n\t"
        "vsub.i16 q0, q7, q0\n\t"
        "vqshl.u16 q0, q0, #5\n\t"
        "vshr.u16 q0, q0, #6\n\t"
        "vldrh.u16 q1, [%[table], q0, uxtw #1]\n\t"
        "vldrh.u16 q2, [%[factors]], #16\n\t"
        "vaddva.u16 %[sum], q1\n\t"
        "vrmulh.u16 q1, q1, q2\n\t"
        "vstrh.16 q1, [%[scores]], #16\n\t"
        "letp   lr, 1b"
        : [scores] "+r"(scores), [factors] "+r"(factors), [sum] "+Te"(sum)
        : [count] "r"(count), [largest] "r"((int32_t)largest), [table] "r"(edge_exp2_table)
        : "q0", "q1", "q2", "q7", "lr", "cc", "memory");
    return sum;
}

/* The same where factors do not fit 16 bits. */
EDGE_PART uint32_t weigh_wide(int16_t *scores, size_t count, int16_t largest, const uint8_t *scales, uint32_t top,
                              uint32_t shift) {
    uint32_t sum = 0;
    EDGE_ROLLED
    for (size_t t = 0; t < count; t++) {
        uint32_t step = (uint32_t)(largest - scores[t]) >> 1, e = edge_exp2_table[step < 1023 ? step : 1023];
        uint32_t factor = (8 + (scales[t] & 7u)) << 27 >> (top - (scales[t] >> 3)) >> shift;
        sum += e;
        scores[t] = (int16_t)(((uint64_t)e * factor + 0x80000000u) >> 32);
    }
    return sum;
}

#define WEIGHTED_2(a, b)                                                                             \
    "vldrb.s16 q1, [%[values]], #8\n\t vldrb.s16 q2, [%[values]], #8\n\t"                            \
    "vmladava.s16 " a ", q0, q1\n\t vmladava.s16 " b ", q0, q2\n\t"

#define WEIGHTED_SUMS(to_next)                                                                       \
    __asm__ volatile(                                                                                \
        "movs   r0, #0\n\t movs r2, #0\n\t movs r4, #0\n\t movs r6, #0\n\t"                            \
        "mov    r8, #0\n\t mov r10, #0\n\t mov r12, #0\n\t mov lr, #0\n"                               \
        "1:\n\t"                                                                                     \
        "vldrh.u16 q0, [%[weights]], #16\n\t"                                                        \
        WEIGHTED_2("r0", "r2") WEIGHTED_2("r4", "r6") WEIGHTED_2("r8", "r10") WEIGHTED_2("r12", "lr") to_next \
        "subs   %[parts], #1\n\t"                                                                    \
        "bne    1b\n\t"                                                                              \
        "vmov   %q[low][2], %q[low][0], r0, r4\n\t vmov %q[low][3], %q[low][1], r2, r6\n\t"          \
        "vmov   %q[high][2], %q[high][0], r8, r12\n\t vmov %q[high][3], %q[high][1], r10, lr"        \
        : [values] "+l"(values), [weights] "+r"(weights), [parts] "+r"(parts), [low] "=w"(low), [high] "=w"(high) \
        : [skip] "r"(skip)                                                                           \
        : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "q0", "q1", "q2", "lr", "cc", "memory")

/* y[8]: weighted sums of 8 dimensions; a part of the values goes on for 64 + skip bytes. */
INLINED void weighted_sums_of_8(const int8_t *values, size_t parts, size_t skip, const int16_t *weights, float factor,
                                float *y) {
    int32x4_t low, high;
    if (__builtin_constant_p(skip) && skip == 0)
        WEIGHTED_SUMS("");
    else
        WEIGHTED_SUMS("add    %[values], %[values], %[skip]\n\t");
    vst1q_f32(y, vmulq_n_f32(vcvtq_f32_s32(low), factor));
    vst1q_f32(y + 4, vmulq_n_f32(vcvtq_f32_s32(high), factor));
}

INLINED void weighted_sums(const int8_t *values, size_t count, size_t head_dim, const int16_t *weights, float factor,
                           float *y) {
    size_t parts = (count + PART - 1) / PART, skip = (padded(head_dim) - 8) * PART, whole = head_dim / 8 * 8;
    for (size_t d = 0; d < whole; d += 8, values += 8 * PART)
        weighted_sums_of_8(values, parts, skip, weights, factor, y + d);
    if (whole < head_dim) { /* what is summed behind the last dimension is another's or nobody's */
        float last[8];
        weighted_sums_of_8(values, parts, skip, weights, factor, last);
        for (size_t d = whole; d < head_dim; d++) y[d] = last[d - whole];
    }
}

/* What the query heads of a group share beside their kv head. wide: there are no factors, 16 bits would not do. */
typedef struct {
    size_t count;
    uint32_t top;
    int wide;
    float unit;
    const uint16_t *factors;
} shared_facts;

INLINED void attend_head(const float *query, float *y, const edge_attention_shape *shape, size_t head_dim, kv_head kv,
                         shared_facts shared, int16_t *scores, int8_t *integers) {
    float scale, inverse = edge_inverse_of_mve(largest_of(query, head_dim), &scale);
    round_row(query, head_dim, inverse, integers);
    int16_t largest = score(kv.keys, shared.count, head_dim, integers, kv.key_scales, scale * shape->scale, scores);
    uint32_t sum;
    if (shared.wide)
        sum = weigh_wide(scores, shared.count, largest, kv.value_scales, shared.top, shape->weight_shift);
    else
        sum = weigh(scores, shared.count, largest, shared.factors);
    vst1q_s16(scores + shared.count, vdupq_n_s16(0));
    weighted_sums(kv.values, shared.count, head_dim, scores, shared.unit / (float)sum, y);
}

/* A place in the workspace for everything. */
typedef struct {
    float *relative;
    uint16_t *factors;
    int16_t *scores;  /* with one part more */
    int8_t *integers; /* with 8 zeros before, and zeros behind to the end of a vector */
} places;

INLINED void attend(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape, size_t head_dim,
                    void *cache, places at) {
    size_t count = position + 1, group = shape->heads / shape->kv_heads;
    const float *key = qkv + shape->heads * head_dim, *value = key + shape->kv_heads * head_dim;
    for (size_t g = 0; g < shape->kv_heads; g++, key += head_dim, value += head_dim) {
        kv_head kv = find_kv_head(shape, head_dim, cache, g);
        store(kv, head_dim, position, key, value, at.relative);
        uint32_t least, top, shift = shape->weight_shift;
        find_exponents(kv.value_scales, count, &least, &top);
        int wide = top - least + shift > MOST_SHIFT;
        if (!wide) find_factors(kv.value_scales, count, MOST_SHIFT - (int32_t)(top + shift), at.factors);
        shared_facts shared = {count, top, wide, edge_bits_float((top + 127 - 19 + shift) << 23), at.factors};
        for (size_t h = 0; h < group; h++, qkv += head_dim, y += head_dim)
            attend_head(qkv, y, shape, head_dim, kv, shared, at.scores, at.integers);
    }
}

INLINED void attend_rows(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                         size_t head_dim, size_t count, void *cache, void *workspace) {
    places at = {.relative = workspace};
    at.factors = (void *)(at.relative + padded(head_dim));
    at.scores = (int16_t *)at.factors + slots_of(shape);
    at.integers = (int8_t *)(at.scores + slots_of(shape) + PART) + 8;
    vst1q_s8(at.integers - 8, vdupq_n_s8(0));
    vst1q_s8(at.integers + head_dim, vdupq_n_s8(0));
    for (; count--; position++, qkv += edge_qkv_size(shape), y += shape->heads * head_dim)
        attend(position, qkv, y, shape, head_dim, cache, at);
}

void edge_attention_s8_mve(uint32_t position, const float *qkv, float *y, const edge_attention_shape *shape,
                           size_t count, void *cache, void *workspace) {
    attend_rows(position, qkv, y, shape, shape->head_dim, count, cache, workspace);
}

/* The usual sizes as constants; the linker keeps what a model calls. */
#define ATTENTION(size)                                                                              \
    void edge_attention_s8_mve_##size(uint32_t position, const float *qkv, float *y,                 \
                                      const edge_attention_shape *shape, size_t count, void *cache, void *workspace) { \
        attend_rows(position, qkv, y, shape, size, count, cache, workspace);                         \
    }

ATTENTION(8)
ATTENTION(16)
ATTENTION(32)
ATTENTION(64)
