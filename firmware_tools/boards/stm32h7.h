/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The STM32H743: clocks, voltage, flash, caches (RM0433; addresses as in ST's device header). 400 MHz, which all revisions
 * of the chip bear; the later ones could do 480.
 *
 * A board's .c includes this once and has defined: BOARD_NAME; HSE_HZ, a clock and no crystal, and HSE_NAME; USART,
 * USART_FIFO, USART_IRQ, USART_CLOCKS and USART_CLOCK, the bit there, on APB1; TX_PIN, RX_PIN, USART_AF; PREFILL_PIN,
 * DECODE_PIN. */
#ifndef EDGE_STM32H7_H
#define EDGE_STM32H7_H

#define RCC 0x58024400u
#define RCC_CR REGISTER(RCC)
#define RCC_CFGR REGISTER(RCC + 0x10u)
#define RCC_D1CFGR REGISTER(RCC + 0x18u)
#define RCC_D2CFGR REGISTER(RCC + 0x1Cu)
#define RCC_D3CFGR REGISTER(RCC + 0x20u)
#define RCC_PLLCKSELR REGISTER(RCC + 0x28u)
#define RCC_PLLCFGR REGISTER(RCC + 0x2Cu)
#define RCC_PLL1DIVR REGISTER(RCC + 0x30u)
#define RCC_AHB4ENR REGISTER(RCC + 0xE0u)
#define RCC_APB1LENR REGISTER(RCC + 0xE8u)
#define RCC_CR_HSION (1u << 0)
#define RCC_CR_HSIRDY (1u << 2)
#define RCC_CR_HSIDIV (3u << 3)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLL1ON (1u << 24)
#define RCC_CR_PLL1RDY (1u << 25)
#define RCC_CFGR_SW (7u << 0)
#define RCC_CFGR_SW_PLL1 (3u << 0)
#define RCC_CFGR_SWS (7u << 3)
#define RCC_CFGR_SWS_PLL1 (3u << 3)
#define RCC_PLLCKSELR_PLLSRC_HSE (2u << 0)
#define RCC_PLLCKSELR_DIVM1_0 (1u << 4)
#define RCC_PLLCFGR_PLL1RGE_2 (2u << 2) /* 4 to 8 MHz go into the PLL */
#define RCC_PLLCFGR_DIVP1EN (1u << 16)
#define RCC_PLL1DIVR_N1_0 (1u << 0)
#define RCC_PLL1DIVR_P1_0 (1u << 9)
#define RCC_PLL1DIVR_Q1_0 (1u << 16)
#define RCC_PLL1DIVR_R1_0 (1u << 24)
#define RCC_D1CFGR_HPRE_DIV2 (8u << 0)
#define RCC_D1CFGR_D1PPRE_DIV2 (4u << 4)
#define RCC_D2CFGR_D2PPRE1_DIV2 (4u << 4)
#define RCC_D2CFGR_D2PPRE2_DIV2 (4u << 8)
#define RCC_D3CFGR_D3PPRE_DIV2 (4u << 4)
#define RCC_APB1LENR_TIM2EN (1u << 0)
#define RCC_APB1LENR_TIM5EN (1u << 3)

#define PWR 0x58024800u
#define PWR_CSR1 REGISTER(PWR + 0x04u)
#define PWR_CR3 REGISTER(PWR + 0x0Cu)
#define PWR_D3CR REGISTER(PWR + 0x18u)
#define PWR_CSR1_ACTVOSRDY (1u << 13)
#define PWR_CR3_BYPASS (1u << 0)
#define PWR_CR3_LDOEN (1u << 1)
#define PWR_CR3_SCUEN (1u << 2)
#define PWR_D3CR_VOS (3u << 14) /* 3 is scale 1 */
#define PWR_D3CR_VOSRDY (1u << 13)

#define FLASH 0x52002000u
#define FLASH_ACR REGISTER(FLASH)
#define FLASH_ACR_LATENCY 0xFu
#define FLASH_ACR_LATENCY_2WS 2u
#define FLASH_ACR_WRHIGHFREQ_1 (2u << 4)

#define GPIO 0x58020000u
#define GPIO_CLOCKS RCC_AHB4ENR
#define TIMER_CLOCKS RCC_APB1LENR
#define TIMER_CLOCKS_ON (RCC_APB1LENR_TIM2EN | RCC_APB1LENR_TIM5EN)
#define DBGMCU 0x5C001000u

#include "stm32.h"
#include "stm32_usart.h"

/* the Cortex-M7's caches (ARMv7-M Architecture Reference Manual, B3.2 and B4.8) */
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCSIDR REGISTER(0xE000ED80u)
#define SCB_CSSELR REGISTER(0xE000ED84u)
#define SCB_ICIALLU REGISTER(0xE000EF50u)
#define SCB_DCISW REGISTER(0xE000EF60u)
#define SCB_CCR_DC (1u << 16)
#define SCB_CCR_IC (1u << 17)

#define HSI_HZ 64000000u
#define PLL_IN_HZ 4000000u
#define PLL_N 200u
#define FULL_HZ (PLL_IN_HZ * PLL_N / 2u)

static stm32_clocks clocks = {HSI_HZ, HSI_HZ, HSI_HZ};

/* Whoever started this image (a boot loader, a debugger) may have left other clocks on. */
static int clocks_reset(void) {
    RCC_CR |= RCC_CR_HSION;
    if (!wait_until(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY, TURNS_10_MS(HSI_HZ), "the chip's own clock")) return 0;
    if (RCC_CFGR & RCC_CFGR_SWS) {
        RCC_CFGR &= ~RCC_CFGR_SW;
        if (!wait_until(&RCC_CFGR, RCC_CFGR_SWS, 0, TURNS_10_MS(HSI_HZ), "the switch to the chip's own clock")) return 0;
    }
    RCC_CFGR = 0;
    RCC_CR &= ~(RCC_CR_PLL1ON | RCC_CR_HSEON | RCC_CR_HSIDIV);
    RCC_CR &= ~RCC_CR_HSEBYP;
    RCC_D1CFGR = 0;
    RCC_D2CFGR = 0;
    RCC_D3CFGR = 0;
    return wait_until(&RCC_CR, RCC_CR_PLL1RDY | RCC_CR_HSERDY, 0, TURNS_10_MS(HSI_HZ), "the end of a PLL that ran");
}

/* The supply is that of the board, the chip's linear regulator, and is written before the voltage may change, once after
 * power came (RM0433, 6.8.4); another one would leave the chip without a clock until power goes. */
static int voltage_ready(void) {
    PWR_CR3 = (PWR_CR3 & ~(PWR_CR3_BYPASS | PWR_CR3_SCUEN)) | PWR_CR3_LDOEN;
    if (!wait_until(&PWR_CSR1, PWR_CSR1_ACTVOSRDY, PWR_CSR1_ACTVOSRDY, TURNS_10_MS(HSI_HZ), "the core's supply")) return 0;
    PWR_D3CR |= PWR_D3CR_VOS;
    return wait_until(&PWR_D3CR, PWR_D3CR_VOSRDY, PWR_D3CR_VOSRDY, TURNS_10_MS(HSI_HZ), "the core's voltage");
}

static int full_speed_ready(void) {
    if (!voltage_ready()) return 0;
    RCC_CR |= RCC_CR_HSEBYP;
    RCC_CR |= RCC_CR_HSEON;
    if (!wait_until(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY, TURNS_100_MS(HSI_HZ), HSE_NAME)) return 0;
    RCC_PLLCKSELR = RCC_PLLCKSELR_PLLSRC_HSE | HSE_HZ / PLL_IN_HZ * RCC_PLLCKSELR_DIVM1_0;
    RCC_PLLCFGR = RCC_PLLCFGR_PLL1RGE_2 | RCC_PLLCFGR_DIVP1EN;
    RCC_PLL1DIVR = (PLL_N - 1u) * RCC_PLL1DIVR_N1_0 | RCC_PLL1DIVR_P1_0 | RCC_PLL1DIVR_Q1_0 | RCC_PLL1DIVR_R1_0;
    RCC_CR |= RCC_CR_PLL1ON;
    if (!wait_until(&RCC_CR, RCC_CR_PLL1RDY, RCC_CR_PLL1RDY, TURNS_10_MS(HSI_HZ), "the PLL")) return 0;
    FLASH_ACR = FLASH_ACR_WRHIGHFREQ_1 | FLASH_ACR_LATENCY_2WS; /* for 200 MHz at scale 1 (RM0433, table 17) */
    return wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_LATENCY_2WS, TURNS_10_MS(HSI_HZ), "flash wait states");
}

/* Buses are divided before the core goes faster: AHB, AXI and flash at half of it, the APBs at a quarter. */
static void buses_divide(int divide) {
    RCC_D1CFGR = divide ? RCC_D1CFGR_HPRE_DIV2 | RCC_D1CFGR_D1PPRE_DIV2 : 0u;
    RCC_D2CFGR = divide ? RCC_D2CFGR_D2PPRE1_DIV2 | RCC_D2CFGR_D2PPRE2_DIV2 : 0u;
    RCC_D3CFGR = divide ? RCC_D3CFGR_D3PPRE_DIV2 : 0u;
}

static void clocks_start(void) {
    if (!clocks_reset()) return;
    if (!full_speed_ready()) {
        RCC_CR &= ~RCC_CR_PLL1ON;
        return;
    }
    buses_divide(1);
    RCC_CFGR |= RCC_CFGR_SW_PLL1;
    if (!wait_until(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL1, TURNS_10_MS(HSI_HZ), "the switch to the PLL")) {
        RCC_CFGR &= ~RCC_CFGR_SW;
        if (wait_until(&RCC_CFGR, RCC_CFGR_SWS, 0, TURNS_10_MS(HSI_HZ), "the switch back")) {
            buses_divide(0);
            return;
        }
    } /* or it has come late: the chip says that it runs from the PLL */
    clocks = (stm32_clocks){FULL_HZ, FULL_HZ / 4u, FULL_HZ / 2u}; /* a divided bus gives its timers twice its clock */
}

static void barrier(void) {
    __asm volatile("dsb\n isb" ::: "memory");
}

/* Both hold anything after a reset, and are emptied before they are used. Nothing but the core reads or writes memory
 * here, so that no line ever has to be written back for somebody else. */
static void caches_start(void) {
    SCB_ICIALLU = 0;
    SCB_CSSELR = 0; /* the data cache of level 1 */
    barrier();
    uint32_t shape = SCB_CCSIDR;
    uint32_t sets = (shape >> 13 & 0x7FFFu) + 1u, ways = (shape >> 3 & 0x3FFu) + 1u;
    for (uint32_t set = 0; set < sets; set++)
        for (uint32_t way = 0; way < ways; way++) SCB_DCISW = set << 5 | way << 30; /* 4 ways of lines of 32 bytes */
    barrier();
    SCB_CCR |= SCB_CCR_IC | SCB_CCR_DC;
    barrier();
}

static void chip_start(void) {
    clocks_start();
    if (!(SCB_CCR & SCB_CCR_DC)) caches_start(); /* or a debugger restarted the firmware, whose data are in it */
}

#include "stm32_port.h"

#endif
