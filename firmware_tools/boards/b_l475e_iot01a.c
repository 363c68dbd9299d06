/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* B-L475E-IOT01A: an STM32L475, 80 MHz; USART1 is the ST-LINK's serial port. */
#define BOARD_NAME "b-l475e-iot01a"
#define PLL_M 1u
#define PLL_N 10u
#define WAIT_STATE_HZ 16000000u
#define USART 0x40013800u /* USART1 */
#define USART_FIFO 0
#define USART_IRQ 37u
#define USART_CLOCKS RCC_APB2ENR
#define USART_CLOCK (1u << 14)
#define USART_AF 7u
#define TX_PIN 22u /* PB6 */
#define RX_PIN 23u /* PB7 */
#define PREFILL_PIN 4u /* PA4, D7 */
#define DECODE_PIN 18u /* PB2, D8 */
#include "stm32l4.h"
