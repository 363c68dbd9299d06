/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* NUCLEO-H743ZI and -ZI2: an STM32H743, fed with 8 MHz by its ST-LINK; USART3 is the ST-LINK's serial port. */
#define BOARD_NAME "nucleo-h743zi"
#define HSE_HZ 8000000u
#define HSE_NAME "the 8 MHz clock of the ST-LINK"
#define USART 0x40004800u /* USART3 */
#define USART_FIFO 1
#define USART_IRQ 39u
#define USART_CLOCKS RCC_APB1LENR
#define USART_CLOCK (1u << 18)
#define USART_AF 7u
#define TX_PIN 56u /* PD8 */
#define RX_PIN 57u /* PD9 */
#define PREFILL_PIN 73u /* PE9, D6 */
#define DECODE_PIN 75u  /* PE11, D5 */
#include "stm32h7.h"
