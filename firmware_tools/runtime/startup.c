/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What a Cortex-M does before main: vector table, FPU, memory. The generated linker script defines the edge_ symbols.
 *
 * Interrupts stay masked for ever: a pending one only ends a WFI (boards/X.c). The stack lies at the bottom of RAM, so
 * that one too deep leaves RAM and faults instead of overwriting data. */
#include <stddef.h>
#include <stdint.h>

#include "port.h"

#define STACK_PAINT 0xA5C35A3Cu
#define VTOR (*(volatile uint32_t *)0xE000ED08u)  /* where the vectors are, ARMv7-M B3.2.5 */
#define CPACR (*(volatile uint32_t *)0xE000ED88u) /* coprocessor access, ARMv7-M B3.2.20 */
#define CPACR_FPU (0xFu << 20)
#define CCR (*(volatile uint32_t *)0xE000ED14u) /* configuration and control, Armv8-M D1.2.9 */
#define CCR_LOOPS (1u << 19)                    /* loop and branch information is cached */

extern uint32_t edge_stack_bottom[], edge_stack_top[];
extern const uint8_t edge_flash_start[], edge_flash_end[], edge_weights_start[];

/* The linker script's tables of what is copied from flash to RAM, and what is cleared. */
typedef struct {
    const uint32_t *from;
    uint32_t *start, *end;
} stretch;
typedef struct {
    uint32_t *start, *end;
} buffer;
extern const stretch edge_copies[], edge_copies_end[];
extern const buffer edge_clears[], edge_clears_end[];

int main(void);
void edge_reset(void);
void edge_fault(void);
void edge_report_fault(const uint32_t *frame);

size_t port_stack_bytes(void) {
    const uint32_t *at = edge_stack_bottom;
    while (at < edge_stack_top && *at == STACK_PAINT) at++;
    return (size_t)((const char *)edge_stack_top - (const char *)at);
}

size_t port_image(const uint8_t **start) {
    *start = edge_flash_start;
    return (size_t)((uintptr_t)edge_flash_end - (uintptr_t)edge_flash_start);
}

const char *port_weights_in(void) {
    uintptr_t at = (uintptr_t)edge_weights_start;
    return at >= (uintptr_t)edge_flash_start && at < (uintptr_t)edge_flash_end ? "flash" : "ram";
}

__attribute__((weak)) void port_start(void) {
}

static void write_hex(uint32_t value) {
    uint8_t digits[8];
    for (int i = 7; i >= 0; i--, value >>= 4) digits[i] = (uint8_t)"0123456789abcdef"[value & 15];
    port_write(digits, sizeof digits);
}

/* frame: what the processor stacked; word 6 is the address of the instruction that failed. */
void edge_report_fault(const uint32_t *frame) {
    static const uint8_t before[] = "\r\ne-[fault at 0x", after[] = "]\r\n";
    port_write(before, sizeof before - 1);
    if (frame >= edge_stack_bottom && frame + 8 <= edge_stack_top) write_hex(frame[6]);
    port_write(after, sizeof after - 1);
    for (;;) port_idle(); /* where a port must be looked after, so that the report gets out */
}

/* Where the stack is all but full, the report takes its other end; it needs less than 768 bytes (a port over USB). */
__attribute__((naked)) void edge_fault(void) {
    __asm volatile(
        "mov r0, sp\n"
        "ldr r1, =edge_stack_bottom + 768\n"
        "cmp r0, r1\n"
        "bhs 1f\n"
        "ldr r1, =edge_stack_top\n"
        "mov sp, r1\n"
        "1: bl edge_report_fault\n"); /* a plain branch may be too short on a Cortex-M0+ */
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler handlers[15];
} vectors = {edge_stack_top,
             {edge_reset, edge_fault, edge_fault, edge_fault, edge_fault, edge_fault, 0, 0, 0, 0, edge_fault, edge_fault,
              0, edge_fault, edge_fault}};

/* volatile, or compilers make calls of it, of functions that may be among what is copied. */
static void set_memory(void) {
    for (const stretch *copy = edge_copies; copy < edge_copies_end; copy++) {
        const uint32_t *from = copy->from;
        for (volatile uint32_t *at = copy->start; at < copy->end; at++) *at = *from++;
    }
    for (const buffer *clear = edge_clears; clear < edge_clears_end; clear++) {
        for (volatile uint32_t *at = clear->start; at < clear->end; at++) *at = 0;
    }
#if __ARM_ARCH >= 7 /* what was copied may be code */
    __asm volatile("dsb\n isb" ::: "memory");
#endif
}

void edge_reset(void) {
    __asm volatile("cpsid i");
#if __ARM_ARCH >= 7 /* whoever started this image may have had vectors of its own */
    VTOR = (uint32_t)&vectors;
#endif
#if defined(__ARM_FP)
    CPACR |= CPACR_FPU;
    __asm volatile("dsb\n isb");
#endif
#if defined(__ARM_FEATURE_MVE)
    CCR |= CCR_LOOPS; /* the end of a loop costs no time */
    uint32_t fpscr;   /* Helium takes numbers below 2^-126 for zero; with FZ all other float instructions do, too */
    __asm volatile("vmrs %0, fpscr\n orr %0, %0, #0x1000000\n vmsr fpscr, %0" : "=r"(fpscr));
#endif
    uint32_t *here;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (uint32_t *at = edge_stack_bottom; at < here; at++) *(volatile uint32_t *)at = STACK_PAINT;
    port_start();
    set_memory();
    main();
    for (;;) __asm volatile("wfi");
}
