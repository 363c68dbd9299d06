/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The STM32L475 and STM32L4R5: clocks and flash (RM0351, RM0432; addresses as in ST's device headers). Their clock is made
 * of the 16 MHz that the chip has itself, HSI16: no board here has a crystal for it, and it is exact to 1 %.
 *
 * A board's .c includes this once and has defined: BOARD_NAME; PLL_M and PLL_N, which make twice its full speed of 16 MHz;
 * BOOST where that is above 80 MHz; WAIT_STATE_HZ, what one more wait state allows; PORT_G where that is used; USART,
 * USART_FIFO, USART_LOW_POWER where it is one, USART_IRQ, USART_CLOCKS and USART_CLOCK, the bit there; TX_PIN, RX_PIN,
 * USART_AF; PREFILL_PIN, DECODE_PIN. */
#ifndef EDGE_STM32L4_H
#define EDGE_STM32L4_H

#define RCC 0x40021000u
#define RCC_CR REGISTER(RCC)
#define RCC_CFGR REGISTER(RCC + 0x08u)
#define RCC_PLLCFGR REGISTER(RCC + 0x0Cu)
#define RCC_AHB2ENR REGISTER(RCC + 0x4Cu)
#define RCC_APB1ENR1 REGISTER(RCC + 0x58u)
#define RCC_APB1ENR2 REGISTER(RCC + 0x5Cu)
#define RCC_APB2ENR REGISTER(RCC + 0x60u)
#define RCC_CR_MSION (1u << 0)
#define RCC_CR_MSIRDY (1u << 1)
#define RCC_CR_HSION (1u << 8)
#define RCC_CR_HSIRDY (1u << 10)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR_PLLSRC_HSI (2u << 0)
#define RCC_PLLCFGR_PLLM_0 (1u << 4)
#define RCC_PLLCFGR_PLLN_0 (1u << 8)
#define RCC_PLLCFGR_PLLREN (1u << 24)
#define RCC_CFGR_SW (3u << 0)
#define RCC_CFGR_SW_HSI (1u << 0)
#define RCC_CFGR_SW_PLL (3u << 0)
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_HSI (1u << 2)
#define RCC_CFGR_SWS_PLL (3u << 2)
#define RCC_CFGR_HPRE (0xFu << 4)
#define RCC_CFGR_HPRE_DIV2 (8u << 4)
#define RCC_APB1ENR1_TIM2EN (1u << 0)
#define RCC_APB1ENR1_TIM5EN (1u << 3)
#define RCC_APB1ENR1_PWREN (1u << 28)

#define PWR 0x40007000u
#define PWR_CR1 REGISTER(PWR)
#define PWR_CR2 REGISTER(PWR + 0x04u)
#define PWR_SR2 REGISTER(PWR + 0x14u)
#define PWR_CR5 REGISTER(PWR + 0x80u)
#define PWR_CR1_VOS (3u << 9)
#define PWR_CR1_VOS_0 (1u << 9) /* range 1 */
#define PWR_CR2_IOSV (1u << 9)
#define PWR_SR2_VOSF (1u << 10)
#define PWR_CR5_R1MODE (1u << 8)

#define FLASH 0x40022000u
#define FLASH_ACR REGISTER(FLASH)
#if defined(BOOST) /* the L4+ has a bit more */
#define FLASH_ACR_LATENCY 0xFu
#else
#define FLASH_ACR_LATENCY 0x7u
#endif
#define FLASH_ACR_PRFTEN (1u << 8)
#define FLASH_ACR_ICEN (1u << 9)
#define FLASH_ACR_DCEN (1u << 10)

#define GPIO 0x48000000u
#define GPIO_CLOCKS RCC_AHB2ENR
#define TIMER_CLOCKS RCC_APB1ENR1
#define TIMER_CLOCKS_ON (RCC_APB1ENR1_TIM2EN | RCC_APB1ENR1_TIM5EN)
#define DBGMCU 0xE0042000u

#include "stm32.h"
#include "stm32_usart.h"

#define MSI_HZ 4000000u /* as after a reset */
#define HSI_HZ 16000000u
#define FULL_HZ (HSI_HZ / PLL_M * PLL_N / 2u)
#define WAIT_STATES ((FULL_HZ - 1u) / WAIT_STATE_HZ)

static stm32_clocks clocks = {MSI_HZ, MSI_HZ, MSI_HZ};

/* Whoever started this image (a boot loader, a debugger) may have left other clocks on, though never another MSI. */
static int clocks_reset(void) {
    if (RCC_CFGR & RCC_CFGR_SWS) {
        RCC_CR |= RCC_CR_MSION;
        if (!wait_until(&RCC_CR, RCC_CR_MSIRDY, RCC_CR_MSIRDY, TURNS_10_MS(HSI_HZ), "the chip's own clock")) return 0;
        RCC_CFGR &= ~RCC_CFGR_SW;
        if (!wait_until(&RCC_CFGR, RCC_CFGR_SWS, 0, TURNS_10_MS(HSI_HZ), "the switch to the chip's own clock")) return 0;
    }
    RCC_CFGR = 0;
    RCC_CR &= ~RCC_CR_PLLON;
    return wait_until(&RCC_CR, RCC_CR_PLLRDY, 0, TURNS_10_MS(HSI_HZ), "the end of a PLL that ran");
}

static int switch_to(uint32_t source, uint32_t switched, const char *what) {
    field(&RCC_CFGR, 0, RCC_CFGR_SW, source);
    return wait_until(&RCC_CFGR, RCC_CFGR_SWS, switched, TURNS_10_MS(HSI_HZ), what);
}

/* In no emulator does flash have wait states that could be read again. */
static int wait_states_set(void) {
    FLASH_ACR = FLASH_ACR_PRFTEN | FLASH_ACR_ICEN | FLASH_ACR_DCEN | WAIT_STATES;
    return is_emulated() ||
           wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, WAIT_STATES, TURNS_10_MS(MSI_HZ), "flash wait states");
}

/* The switch to full speed. Above 80 MHz the core's bus goes at half of it until 1 microsecond has passed (RM0432, 5.1.8). */
static int pll_taken(void) {
#if defined(BOOST)
    PWR_CR5 &= ~PWR_CR5_R1MODE;
    RCC_CFGR = RCC_CFGR_HPRE_DIV2;
#endif
    if (!switch_to(RCC_CFGR_SW_PLL, RCC_CFGR_SWS_PLL, "the switch to the PLL") &&
        switch_to(RCC_CFGR_SW_HSI, RCC_CFGR_SWS_HSI, "the switch back")) {
        RCC_CFGR &= ~RCC_CFGR_HPRE;
        return 0;
    } /* or it has come late: the chip says that it runs from the PLL */
#if defined(BOOST)
    for (uint32_t turns = FULL_HZ / 1000000u; turns; turns--) __asm volatile("nop");
    RCC_CFGR &= ~RCC_CFGR_HPRE;
#endif
    return 1;
}

static void clocks_start(void) {
    if (!clocks_reset()) return;
    field(&PWR_CR1, 0, PWR_CR1_VOS, PWR_CR1_VOS_0);
    if (!wait_until(&PWR_SR2, PWR_SR2_VOSF, 0, TURNS_10_MS(MSI_HZ), "the core's voltage")) return;
    RCC_CR |= RCC_CR_HSION;
    if (!wait_until(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY, TURNS_10_MS(MSI_HZ), "the chip's own 16 MHz")) return;
    if (!wait_states_set()) return;
    if (!switch_to(RCC_CFGR_SW_HSI, RCC_CFGR_SWS_HSI, "the switch to 16 MHz")) return;
    clocks = (stm32_clocks){HSI_HZ, HSI_HZ, HSI_HZ};
    RCC_PLLCFGR =
        RCC_PLLCFGR_PLLSRC_HSI | (PLL_M - 1u) * RCC_PLLCFGR_PLLM_0 | PLL_N * RCC_PLLCFGR_PLLN_0 | RCC_PLLCFGR_PLLREN;
    RCC_CR |= RCC_CR_PLLON; /* by R, which divides by 2 */
    if (!wait_until(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY, TURNS_10_MS(HSI_HZ), "the PLL")) {
        RCC_CR &= ~RCC_CR_PLLON;
        return;
    }
    if (pll_taken()) clocks = (stm32_clocks){FULL_HZ, FULL_HZ, FULL_HZ};
}

static void chip_start(void) {
    RCC_APB1ENR1 |= RCC_APB1ENR1_PWREN;
    (void)RCC_APB1ENR1; /* a peripheral may be used two cycles after its clock is on */
    clocks_start();
#if defined(PORT_G) /* its pins have a supply of their own, which counts as absent until the firmware says that it is there */
    PWR_CR2 |= PWR_CR2_IOSV;
#endif
}

#include "stm32_port.h"

#endif
