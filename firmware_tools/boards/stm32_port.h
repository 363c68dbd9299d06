/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The port functions of all STM32s. A family's header includes this at its end, and has defined before:
 *
 * chip_start(), which brings the core to its full speed and leaves in `clocks` what runs; usart_start, usart_get,
 * usart_has_room and usart_put; TIMER_CLOCKS and TIMER_CLOCKS_ON. */
#ifndef EDGE_STM32_PORT_H
#define EDGE_STM32_PORT_H

#include "ticks.h"

#define COARSE_HZ 4000u /* of TIM2, at least: no division makes milliseconds of it */

/* What tells the time. Ticks are those of the cycle counter; where none counts, as in QEMU, those of TIM5; where that does
 * not count either, as in QEMU's L475, time goes on only while the board sleeps, and ticks stand still. */
static struct {
    uint64_t time;      /* TIM2's, extended */
    uint32_t ticks_hz;  /* of the fine counter */
    uint32_t each;      /* of its ticks, in one of TIM2's */
    unsigned millis;    /* TIM2's counts in a millisecond are 2 to the power of this */
    int cycles, timers; /* which counters count */
} timebase;

static uint32_t fine(void) {
    return timebase.cycles ? DWT_CYCCNT : timebase.timers ? TIM_CNT(TIM5) : 0;
}

static uint64_t coarse(void) {
    return timebase.timers ? ticks_extend(&timebase.time, TIM_CNT(TIM2), 32) : timebase.time;
}

static void timer_start(uint32_t timer, uint32_t divider) {
    TIM_CR1(timer) = 0;
    TIM_PSC(timer) = divider - 1u;
    TIM_ARR(timer) = 0xFFFFFFFFu;
    TIM_CNT(timer) = 0;
    TIM_EGR(timer) = TIM_EGR_UG; /* the divider counts from here on */
    TIM_CR1(timer) = TIM_CR1_CEN;
}

static void timebase_start(void) {
    uint32_t timer_hz = clocks.timer_hz;
#if defined(EMULATED_TIMER_HZ)
    if (is_emulated()) timer_hz = EMULATED_TIMER_HZ;
#endif
    uint32_t divider = timer_hz / COARSE_HZ;
    for (timebase.millis = 2; divider > 65536u; timebase.millis++) divider /= 2u;
    TIMER_CLOCKS |= TIMER_CLOCKS_ON;
    (void)TIMER_CLOCKS;
    timebase.cycles = cycles_start();
    timer_start(TIM5, 1u);
    timer_start(TIM2, divider);
    uint32_t before = TIM_CNT(TIM5);
    __asm volatile("nop\n nop\n nop\n nop");
    timebase.timers = TIM_CNT(TIM5) != before;
    if (timebase.cycles) TIM_CR1(TIM5) = 0;
    timebase.ticks_hz = timebase.cycles || !timebase.timers ? clocks.cpu_hz : timer_hz;
    timebase.each = timebase.cycles ? clocks.cpu_hz / (timer_hz / divider) : divider;
}

const char *port_name(void) {
    return is_emulated() ? "EMULATED " BOARD_NAME : BOARD_NAME;
}

void port_init(void) {
    chip_start();
    timebase_start();
    port_gate(PORT_GATE_PREFILL, 0);
    port_gate(PORT_GATE_DECODE, 0);
    USART_CLOCKS |= USART_CLOCK;
    (void)USART_CLOCKS;
    pin_alternate(TX_PIN, USART_AF);
    pin_alternate(RX_PIN, USART_AF);
    usart_start(clocks.uart_hz);
    nvic_enable(USART_IRQ);
}

int port_read(void) {
    return usart_get();
}

/* A byte takes 87 microseconds to leave; one that does not leave in 10 ms never will, and is lost. */
void port_write(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (uint32_t turns = TURNS_10_MS(clocks.cpu_hz); turns && !usart_has_room(); turns--) {
        }
        usart_put(bytes[i]);
    }
}

/* A byte ends the sleep, or 10 ms. The cycle counter stands still meanwhile, and is put forward afterwards. */
void port_idle(void) {
    uint64_t before = port_ticks();
    sleep_10_ms(clocks.cpu_hz);
    nvic_clear_pending(USART_IRQ);
    if (timebase.cycles && timebase.timers) {
        DWT_CYCCNT += ticks_after_sleep(before, coarse() * timebase.each, DWT_CYCCNT);
    } else if (!timebase.timers) {
        uint32_t slept = SYST_CSR & SYST_CSR_COUNTFLAG ? SYST_RVR : SYST_RVR - SYST_CVR;
        timebase.time += slept / (clocks.cpu_hz / COARSE_HZ) + 1u;
    }
}

uint64_t port_ticks(void) {
    uint32_t now = fine();
    return ticks_nearest(coarse() * timebase.each, now, 32);
}

uint32_t port_millis(void) {
    return (uint32_t)(coarse() >> timebase.millis);
}

uint32_t port_ticks_hz(void) {
    return timebase.ticks_hz;
}

void port_pin(unsigned pin, int high) {
    pin_clock(pin);
    GPIO_BSRR(pin / 16u) = 1u << (pin % 16u + (high ? 0u : 16u));
    field(&GPIO_MODER(pin / 16u), 2u * (pin % 16u), 3u, GPIO_MODE_OUTPUT);
}

void port_gate(unsigned gate, int high) {
    port_pin(gate == PORT_GATE_PREFILL ? PREFILL_PIN : DECODE_PIN, high);
}

#endif
