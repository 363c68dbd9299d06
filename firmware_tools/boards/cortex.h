/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What every Cortex-M has beside its instructions: SysTick, the interrupt controller, the cycle counter (ARMv6-M
 * Architecture Reference Manual, B3.2 to B3.4; ARMv7-M, B3.2 to B3.4 and C1.8; Armv8-M, D1.2).
 *
 * Interrupts stay masked for ever (startup.c): one that is enabled and pending only ends a WFI. */
#ifndef EDGE_CORTEX_H
#define EDGE_CORTEX_H

#include <stdint.h>

#ifndef REGISTER /* the tests have simulated registers instead */
#define REGISTER(address) (*(volatile uint32_t *)(address))
#endif

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u) /* counts down; a write of any value makes it 0 */
#define SYST_CSR_ENABLE (1u << 0)
#define SYST_CSR_TICKINT (1u << 1)
#define SYST_CSR_CLKSOURCE (1u << 2) /* the core's own clock */
#define SYST_CSR_COUNTFLAG (1u << 16) /* it came to 0 since this register was read last */
#define SYST_BITS 24u

#define NVIC_ISER(irq) REGISTER(0xE000E100u + (irq) / 32u * 4u)
#define NVIC_ICPR(irq) REGISTER(0xE000E280u + (irq) / 32u * 4u)
#define NVIC_BIT(irq) (1u << (irq) % 32u)

#define ICSR REGISTER(0xE000ED04u)
#define ICSR_PENDSTCLR (1u << 25)

static inline void nvic_enable(unsigned irq) {
    NVIC_ISER(irq) = NVIC_BIT(irq);
}

static inline void nvic_clear_pending(unsigned irq) {
    NVIC_ICPR(irq) = NVIC_BIT(irq);
}

/* Sleeps until an enabled interrupt is pending. Who calls clears it afterwards: at its source, then here. */
static inline void sleep_until_interrupt(void) {
    __asm volatile("dsb\n wfi" ::: "memory");
}

/* The same, for 10 ms at most, by a SysTick that nothing else needs; hz: of the core, up to 1.6 GHz. */
static inline void sleep_10_ms(uint32_t hz) {
    SYST_RVR = hz / 100u - 1u;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_ENABLE | SYST_CSR_TICKINT | SYST_CSR_CLKSOURCE;
    sleep_until_interrupt();
    SYST_CSR = 0;
    ICSR = ICSR_PENDSTCLR;
}

#if __ARM_ARCH >= 7 /* the cycle counter: 32 bits that count up; Armv6-M has none */
#define DEMCR REGISTER(0xE000EDFCu)
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CTRL_CYCCNTENA (1u << 0)
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define DWT_LAR REGISTER(0xE0001FB0u) /* a lock, which a Cortex-M7 really has; on others the write does nothing */
#define DWT_LAR_KEY 0xC5ACCE55u

/* Starts the cycle counter at 0. Returns whether it counts: in QEMU it does not. */
static inline int cycles_start(void) {
    DEMCR |= DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY;
    DWT_CYCCNT = 0;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
    uint32_t before = DWT_CYCCNT;
    __asm volatile("nop\n nop\n nop\n nop");
    return DWT_CYCCNT != before;
}
#endif

#endif
