/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Netduino Plus 2: an STM32F405 with a 25 MHz crystal; USART6 at D0 (RX) and D1 (TX). */
#define BOARD_NAME "netduinoplus2"
#define HSE_HZ 25000000u
#define HSE_NAME "the 25 MHz crystal"
#define PLL_N 336u
#define USART 0x40011400u /* USART6 */
#define USART_IRQ 71u
#define USART_ON_APB2
#define USART_CLOCKS RCC_APB2ENR
#define USART_CLOCK (1u << 5)
#define USART_AF 8u
#define TX_PIN 38u /* PC6 */
#define RX_PIN 39u /* PC7 */
#define PREFILL_PIN 1u /* PA1, D7 */
#define DECODE_PIN 0u  /* PA0, D8 */
#define FAULTY_FLASH_IDCODE 0x20006411u /* revision A: its prefetch is not supported, with its caches code crashes */
#define EMULATED_TIMER_HZ 1000000000u /* whatever the clocks are: QEMU, hw/arm/stm32f405_soc.c */
#include "stm32f4.h"
