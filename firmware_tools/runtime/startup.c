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
extern uint32_t edge_data_start[], edge_data_end[], edge_bss_start[], edge_bss_end[];
extern const uint32_t edge_data_load[];

int main(void);
void edge_reset(void);
void edge_fault(void);
void edge_report_fault(const uint32_t *frame);

size_t port_stack_bytes(void) {
    const uint32_t *at = edge_stack_bottom;
    while (at < edge_stack_top && *at == STACK_PAINT) at++;
    return (size_t)((const char *)edge_stack_top - (const char *)at);
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
    for (;;) __asm volatile("wfi");
}

/* Where the stack is all but full, the report takes its other end; it needs less than 64 bytes. */
__attribute__((naked)) void edge_fault(void) {
    __asm volatile(
        "mov r0, sp\n"
        "ldr r1, =edge_stack_bottom + 64\n"
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
    const uint32_t *load = edge_data_load;
    for (uint32_t *at = edge_data_start; at < edge_data_end; at++) *at = *load++;
    for (uint32_t *at = edge_bss_start; at < edge_bss_end; at++) *at = 0;
    main();
    for (;;) __asm volatile("wfi");
}
