/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The USART of the families L4 and H7, and their LPUART, which differs in its divider (RM0351, 40; RM0433, 48).
 *
 * A board's .c has defined USART, its address; USART_FIFO: it has a FIFO, of 8 bytes in the L4+ and 16 in the H7; and
 * USART_LOW_POWER where it is an LPUART. */
#ifndef EDGE_STM32_USART_H
#define EDGE_STM32_USART_H

#include "stm32.h"

#define USART_CR1 REGISTER(USART)
#define USART_BRR REGISTER(USART + 0x0Cu)
#define USART_ISR REGISTER(USART + 0x1Cu)
#define USART_ICR REGISTER(USART + 0x20u)
#define USART_RDR REGISTER(USART + 0x24u)
#define USART_TDR REGISTER(USART + 0x28u)
#define USART_CR1_UE (1u << 0)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_RXNEIE (1u << 5) /* with the FIFO: while it is not empty */
#define USART_CR1_FIFOEN (1u << 29)
#define USART_ISR_FE (1u << 1)
#define USART_ISR_ORE (1u << 3)
#define USART_ISR_RXNE (1u << 5)
#define USART_ISR_TXE (1u << 7)
#define USART_ICR_FECF (1u << 1)
#define USART_ICR_ORECF (1u << 3)

static inline int usart_has_room(void) {
    return (USART_ISR & USART_ISR_TXE) != 0;
}

static inline void usart_put(uint8_t byte) {
    USART_TDR = byte;
}

/* An LPUART divides 256 times its clock, in 20 bits: computed without leaving 32. */
static uint32_t usart_divider(uint32_t hz) {
#if defined(USART_LOW_POWER)
    return hz / BAUD * 256u + (hz % BAUD * 256u + BAUD / 2u) / BAUD;
#else
    return (hz + BAUD / 2u) / BAUD;
#endif
}

static void usart_start(uint32_t hz) {
    USART_CR1 = 0;
    USART_BRR = usart_divider(hz);
    USART_CR1 = USART_FIFO ? USART_CR1_FIFOEN : 0u; /* only while it is off */
    USART_CR1 |= USART_CR1_UE | USART_CR1_RE | USART_CR1_TE | USART_CR1_RXNEIE;
}

/* An overrun lost bytes, and would keep the receiver silent for ever. The flags are those of the byte that is read next. */
static int usart_get(void) {
    uint32_t state = USART_ISR;
    if (state & USART_ISR_ORE) USART_ICR = USART_ICR_ORECF;
    if (!(state & USART_ISR_RXNE)) return PORT_NOTHING;
    uint32_t byte = USART_RDR & 0xFFu;
    if (!(state & USART_ISR_FE)) return (int)byte;
    USART_ICR = USART_ICR_FECF;
    return byte ? (int)byte : PORT_BREAK;
}

#endif
