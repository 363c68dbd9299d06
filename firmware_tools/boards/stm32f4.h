/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The STM32F405 and STM32F446: clocks, flash and USART (RM0090, RM0390; addresses as in ST's device headers).
 *
 * A board's .c includes this once and has defined: BOARD_NAME; HSE_HZ, HSE_NAME, and HSE_BYPASS where that is a clock
 * and no crystal; PLL_N, the PLL's megahertz before its divider by 2; OVER_DRIVE above 168 MHz; USART, USART_IRQ,
 * USART_CLOCKS and USART_CLOCK, the bit there; USART_ON_APB2 where it is; TX_PIN, RX_PIN, USART_AF; PREFILL_PIN,
 * DECODE_PIN; FAULTY_FLASH_IDCODE where a revision must do without prefetch and caches; and EMULATED_TIMER_HZ if an
 * emulator has timers with a clock of their own. */
#ifndef EDGE_STM32F4_H
#define EDGE_STM32F4_H

#define RCC 0x40023800u
#define RCC_CR REGISTER(RCC)
#define RCC_PLLCFGR REGISTER(RCC + 0x04u)
#define RCC_CFGR REGISTER(RCC + 0x08u)
#define RCC_AHB1ENR REGISTER(RCC + 0x30u)
#define RCC_APB1ENR REGISTER(RCC + 0x40u)
#define RCC_APB2ENR REGISTER(RCC + 0x44u)
#define RCC_CR_HSION (1u << 0)
#define RCC_CR_HSIRDY (1u << 1)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR_PLLM_0 (1u << 0)
#define RCC_PLLCFGR_PLLN_0 (1u << 6)
#define RCC_PLLCFGR_PLLSRC_HSE (1u << 22)
#define RCC_PLLCFGR_PLLQ_0 (1u << 24)
#define RCC_PLLCFGR_PLLR_0 (1u << 28)
#define RCC_CFGR_SW (3u << 0)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_CFGR_PPRE1_DIV4 (5u << 10)
#define RCC_CFGR_PPRE2_DIV2 (4u << 13)
#define RCC_APB1ENR_TIM2EN (1u << 0)
#define RCC_APB1ENR_TIM5EN (1u << 3)
#define RCC_APB1ENR_PWREN (1u << 28)

#define PWR 0x40007000u
#define PWR_CR REGISTER(PWR)
#define PWR_CSR REGISTER(PWR + 0x04u)
#if defined(OVER_DRIVE) /* the F446 has two bits, and 3 is scale 1 */
#define PWR_CR_VOS (3u << 14)
#else
#define PWR_CR_VOS (1u << 14)
#endif
#define PWR_CR_ODEN (1u << 16)
#define PWR_CR_ODSWEN (1u << 17)
#define PWR_CSR_ODRDY (1u << 16)
#define PWR_CSR_ODSWRDY (1u << 17)
#define PWR_CSR_VOSRDY (1u << 14)

#define FLASH 0x40023C00u
#define FLASH_ACR REGISTER(FLASH)
#define FLASH_ACR_LATENCY 0xFu
#define FLASH_ACR_PRFTEN (1u << 8)
#define FLASH_ACR_ICEN (1u << 9)
#define FLASH_ACR_DCEN (1u << 10)

#define GPIO 0x40020000u
#define GPIO_CLOCKS RCC_AHB1ENR
#define TIMER_CLOCKS RCC_APB1ENR
#define TIMER_CLOCKS_ON (RCC_APB1ENR_TIM2EN | RCC_APB1ENR_TIM5EN)
#define DBGMCU 0xE0042000u

#include "stm32.h"

#define USART_SR REGISTER(USART)
#define USART_DR REGISTER(USART + 0x04u)
#define USART_BRR REGISTER(USART + 0x08u)
#define USART_CR1 REGISTER(USART + 0x0Cu)
#define USART_SR_FE (1u << 1)
#define USART_SR_ORE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TXE (1u << 7)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_RXNEIE (1u << 5)
#define USART_CR1_UE (1u << 13)

#define HSI_HZ 16000000u
#define FULL_HZ (PLL_N * 500000u)
#define WAIT_STATES ((FULL_HZ - 1u) / 30000000u) /* at 2.7 V and more: one for each 30 MHz */
#define PLL_SETTINGS                                                                                                    \
    (RCC_PLLCFGR_PLLSRC_HSE | HSE_HZ / 1000000u * RCC_PLLCFGR_PLLM_0 | PLL_N * RCC_PLLCFGR_PLLN_0 |                     \
     8u * RCC_PLLCFGR_PLLQ_0 | 2u * RCC_PLLCFGR_PLLR_0) /* P is 0: by 2; Q, which makes USB's 48 MHz, is not used */

static stm32_clocks clocks = {HSI_HZ, HSI_HZ, HSI_HZ};

/* Whoever started this image (a boot loader, a debugger) may have left other clocks on. */
static int clocks_reset(void) {
    RCC_CR |= RCC_CR_HSION;
    if (RCC_CFGR & RCC_CFGR_SWS) {
        if (!wait_until(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY, TURNS_10_MS(HSI_HZ), "the chip's own clock")) return 0;
        RCC_CFGR &= ~RCC_CFGR_SW;
        if (!wait_until(&RCC_CFGR, RCC_CFGR_SWS, 0, TURNS_10_MS(HSI_HZ), "the switch to the chip's own clock")) return 0;
    }
    RCC_CFGR = 0;
    RCC_CR &= ~(RCC_CR_PLLON | RCC_CR_HSEON);
    RCC_CR &= ~RCC_CR_HSEBYP;
    return wait_until(&RCC_CR, RCC_CR_PLLRDY | RCC_CR_HSERDY, 0, TURNS_10_MS(HSI_HZ), "the end of a PLL that ran");
}

/* Crystal, PLL, voltage and flash for full speed, in the order of RM0390, 5.1.4. The core's clock stays as it is. */
static int full_speed_ready(void) {
    RCC_APB1ENR |= RCC_APB1ENR_PWREN;
    (void)RCC_APB1ENR; /* a peripheral may be used two cycles after its clock is on */
    PWR_CR |= PWR_CR_VOS;
#if defined(HSE_BYPASS)
    RCC_CR |= RCC_CR_HSEBYP;
#endif
    RCC_CR |= RCC_CR_HSEON;
    if (!wait_until(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY, TURNS_100_MS(HSI_HZ), HSE_NAME)) return 0;
    RCC_PLLCFGR = PLL_SETTINGS;
    RCC_CR |= RCC_CR_PLLON;
    if (!wait_until(&PWR_CSR, PWR_CSR_VOSRDY, PWR_CSR_VOSRDY, TURNS_10_MS(HSI_HZ), "the core's voltage")) return 0;
#if defined(OVER_DRIVE)
    PWR_CR |= PWR_CR_ODEN;
    if (!wait_until(&PWR_CSR, PWR_CSR_ODRDY, PWR_CSR_ODRDY, TURNS_10_MS(HSI_HZ), "over-drive")) return 0;
    PWR_CR |= PWR_CR_ODSWEN;
    if (!wait_until(&PWR_CSR, PWR_CSR_ODSWRDY, PWR_CSR_ODSWRDY, TURNS_10_MS(HSI_HZ), "over-drive's switch")) return 0;
#endif
    uint32_t faster = FLASH_ACR_PRFTEN | FLASH_ACR_ICEN | FLASH_ACR_DCEN;
#if defined(FAULTY_FLASH_IDCODE)
    if (DBGMCU_IDCODE == FAULTY_FLASH_IDCODE) faster = 0;
#endif
    FLASH_ACR = faster | WAIT_STATES;
    if (!wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, WAIT_STATES, TURNS_10_MS(HSI_HZ), "flash wait states")) return 0;
    return wait_until(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY, TURNS_10_MS(HSI_HZ), "the PLL");
}

static void clocks_start(void) {
    if (!clocks_reset()) return;
    if (!full_speed_ready()) {
        RCC_CR &= ~RCC_CR_PLLON;
        return;
    }
    RCC_CFGR = RCC_CFGR_PPRE1_DIV4 | RCC_CFGR_PPRE2_DIV2; /* what the slower buses bear at full speed */
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    if (!wait_until(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL, TURNS_10_MS(HSI_HZ), "the switch to the PLL")) {
        RCC_CFGR &= ~RCC_CFGR_SW;
        if (wait_until(&RCC_CFGR, RCC_CFGR_SWS, 0, TURNS_10_MS(HSI_HZ), "the switch back")) {
            RCC_CFGR = 0;
            return;
        }
    } /* or it has come late: the chip says that it runs from the PLL */
#if defined(USART_ON_APB2)
    clocks = (stm32_clocks){FULL_HZ, FULL_HZ / 2u, FULL_HZ / 2u};
#else
    clocks = (stm32_clocks){FULL_HZ, FULL_HZ / 4u, FULL_HZ / 2u}; /* a divided bus gives its timers twice its clock */
#endif
}

static void chip_start(void) {
    clocks_start();
}

static inline int usart_has_room(void) {
    return (USART_SR & USART_SR_TXE) != 0;
}

static inline void usart_put(uint8_t byte) {
    USART_DR = byte;
}

static void usart_start(uint32_t hz) {
    USART_CR1 = 0;
    USART_BRR = (hz + BAUD / 2u) / BAUD;
    USART_CR1 = USART_CR1_UE | USART_CR1_RE | USART_CR1_TE | USART_CR1_RXNEIE;
}

/* Reading SR and then DR clears what went wrong. An overrun, which loses all but the first byte that came while the
 * model computed, would else keep the receiver silent for ever. */
static int usart_get(void) {
    uint32_t state = USART_SR;
    if (!(state & (USART_SR_RXNE | USART_SR_ORE))) return PORT_NOTHING;
    uint32_t byte = USART_DR & 0xFFu;
    if (!(state & USART_SR_RXNE)) return PORT_NOTHING;
    return state & USART_SR_FE && !byte ? PORT_BREAK : (int)byte;
}

#include "stm32_port.h"

#endif
