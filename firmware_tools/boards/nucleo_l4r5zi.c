/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* NUCLEO-L4R5ZI: an STM32L4R5 with boost, 120 MHz; LPUART1, whose pins are in port G, is the ST-LINK's serial port. */
#define BOARD_NAME "nucleo-l4r5zi"
#define PLL_M 4u
#define PLL_N 60u
#define BOOST
#define WAIT_STATE_HZ 20000000u
#define PORT_G
#define USART 0x40008000u /* LPUART1 */
#define USART_FIFO 1
#define USART_LOW_POWER
#define USART_IRQ 70u
#define USART_CLOCKS RCC_APB1ENR2
#define USART_CLOCK (1u << 0)
#define USART_AF 8u
#define TX_PIN 103u /* PG7 */
#define RX_PIN 104u /* PG8 */
#define PREFILL_PIN 93u /* PF13, D7 */
#define DECODE_PIN 92u  /* PF12, D8 */
#include "stm32l4.h"
