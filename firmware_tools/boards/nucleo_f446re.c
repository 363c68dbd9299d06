/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* NUCLEO-F446RE: an STM32F446, fed with 8 MHz by its ST-LINK; USART2 is the ST-LINK's serial port. */
#define BOARD_NAME "nucleo-f446re"
#define HSE_HZ 8000000u
#define HSE_NAME "the 8 MHz clock of the ST-LINK"
#define HSE_BYPASS
#define PLL_N 360u
#define OVER_DRIVE
#define USART 0x40004400u /* USART2 */
#define USART_IRQ 38u
#define USART_CLOCKS RCC_APB1ENR
#define USART_CLOCK (1u << 17)
#define USART_AF 7u
#define TX_PIN 2u /* PA2 */
#define RX_PIN 3u /* PA3 */
#define PREFILL_PIN 8u /* PA8, D7 */
#define DECODE_PIN 9u  /* PA9, D8 */
#include "stm32f4.h"
