/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the STM32 families F4, L4 and H7 have alike: pins, timers, the chip's identity (RM0090, RM0351, RM0433).
 *
 * A pin's number is 16 times its port plus its place there: PA0 is 0, PB0 is 16. A family's header gives the addresses:
 * GPIO, where port A's registers are, GPIO_CLOCKS, whose bit n is port n's clock, and DBGMCU. */
#ifndef EDGE_STM32_H
#define EDGE_STM32_H

#include "cortex.h"
#include "port.h"
#include "wait.h"

#define BAUD 115200u

#define GPIO_MODER(port) REGISTER(GPIO + 0x400u * (port))
#define GPIO_OSPEEDR(port) REGISTER(GPIO + 0x400u * (port) + 0x08u)
#define GPIO_PUPDR(port) REGISTER(GPIO + 0x400u * (port) + 0x0Cu)
#define GPIO_BSRR(port) REGISTER(GPIO + 0x400u * (port) + 0x18u)
#define GPIO_AFR(port, half) REGISTER(GPIO + 0x400u * (port) + 0x20u + 4u * (half))
#define GPIO_MODE_OUTPUT 1u
#define GPIO_MODE_ALTERNATE 2u
#define GPIO_PULL_UP 1u

/* 32 bits, both: TIM2 and TIM5 */
#define TIM2 0x40000000u
#define TIM5 0x40000C00u
#define TIM_CR1(timer) REGISTER(timer)
#define TIM_EGR(timer) REGISTER((timer) + 0x14u)
#define TIM_CNT(timer) REGISTER((timer) + 0x24u)
#define TIM_PSC(timer) REGISTER((timer) + 0x28u)
#define TIM_ARR(timer) REGISTER((timer) + 0x2Cu)
#define TIM_CR1_CEN (1u << 0)
#define TIM_EGR_UG (1u << 0)

#define DBGMCU_IDCODE REGISTER(DBGMCU)

/* At a turn's 5 cycles or more: what a crystal may take at most, and what everything else may. */
#define TURNS_100_MS(hz) ((hz) / 50u)
#define TURNS_10_MS(hz) ((hz) / 500u)

/* The clocks that run: a family's clocks_start changes all three at once, when the switch has happened. */
typedef struct {
    uint32_t cpu_hz, uart_hz, timer_hz;
} stm32_clocks;

/* Silicon has a number there, none of QEMU's machines has. */
static inline int is_emulated(void) {
    return DBGMCU_IDCODE == 0;
}

static void field(volatile uint32_t *where, unsigned place, uint32_t mask, uint32_t value) {
    *where = (*where & ~(mask << place)) | value << place;
}

static void pin_clock(unsigned pin) {
    GPIO_CLOCKS |= 1u << pin / 16u;
    (void)GPIO_CLOCKS; /* the port may be used two cycles later, which this read takes */
}

static void pin_alternate(unsigned pin, uint32_t function) {
    unsigned port = pin / 16u, place = pin % 16u;
    pin_clock(pin);
    field(&GPIO_AFR(port, place / 8u), place % 8u * 4u, 0xFu, function);
    field(&GPIO_PUPDR(port), 2u * place, 3u, GPIO_PULL_UP); /* a line that nobody drives is no BREAK */
    field(&GPIO_MODER(port), 2u * place, 3u, GPIO_MODE_ALTERNATE);
}

#endif
