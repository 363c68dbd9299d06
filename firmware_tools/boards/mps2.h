/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The port functions of Arm's MPS2 and MPS3 boards, whatever core is in their FPGA (Arm DAI 0385, 0386, 0500, 0505).
 *
 * A board's .c includes this once and has defined before: BOARD_NAME, the addresses UART0 and FPGAIO, UART0_RX_IRQ,
 * COUNTER_HZ, and UART_HZ where the UART has another clock. */
#ifndef EDGE_MPS2_H
#define EDGE_MPS2_H

#include "cortex.h"
#include "port.h"
#include "ticks.h"

/* a CMSDK APB UART (Arm DDI 0479, 4.3) */
#define UART_DATA REGISTER(UART0)
#define UART_STATE REGISTER(UART0 + 0x04u)
#define UART_CTRL REGISTER(UART0 + 0x08u)
#define UART_INTCLEAR REGISTER(UART0 + 0x0Cu)
#define UART_BAUDDIV REGISTER(UART0 + 0x10u)
#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_RX_RXINT 0xBu /* transmitter, receiver and receive interrupt on */
#define INT_RX 2u
#define BAUD 115200u
#ifndef UART_HZ
#define UART_HZ COUNTER_HZ
#endif

/* FPGA I/O: LEDs and free-running counters */
#define FPGAIO_LED REGISTER(FPGAIO)
#define FPGAIO_CLK100HZ REGISTER(FPGAIO + 0x14u)
#define FPGAIO_COUNTER REGISTER(FPGAIO + 0x18u) /* 32 bits: at 25 MHz it wraps after 171 s */
#define FPGAIO_PRESCALE REGISTER(FPGAIO + 0x1Cu)
#define FPGAIO_MISC REGISTER(FPGAIO + 0x4Cu) /* lines to the display: here the pins that a model's answers switch */

const char *port_name(void) {
    return "EMULATED " BOARD_NAME;
}

const char *port_trouble(void) {
    return "";
}

void port_init(void) {
    UART_BAUDDIV = (UART_HZ + BAUD / 2) / BAUD;
    UART_CTRL = CTRL_TX_RX_RXINT;
    nvic_enable(UART0_RX_IRQ);
    FPGAIO_PRESCALE = 0; /* COUNTER at its full speed */
    FPGAIO_LED = 0;
}

int port_read(void) {
    if (!(UART_STATE & STATE_RX_FULL)) return PORT_NOTHING; /* this UART cannot tell a BREAK */
    return (int)(UART_DATA & 0xFFu);
}

void port_write(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        while (UART_STATE & STATE_TX_FULL) {
        }
        UART_DATA = bytes[i];
    }
}

/* The UART's interrupt comes with a byte that was not there when port_read was asked last; SysTick's comes after 10 ms,
 * so that time-outs are seen. */
void port_idle(void) {
    sleep_10_ms(COUNTER_HZ);
    UART_INTCLEAR = INT_RX;
    nvic_clear_pending(UART0_RX_IRQ);
}

uint64_t port_ticks(void) {
    return ticks_nearest((uint64_t)FPGAIO_CLK100HZ * (COUNTER_HZ / 100u), FPGAIO_COUNTER, 32);
}

uint32_t port_millis(void) {
    return FPGAIO_CLK100HZ * 10u;
}

uint32_t port_ticks_hz(void) {
    return COUNTER_HZ;
}

/* LED 0 is prefill, LED 1 decode. The same instructions raise and lower a gate, so that an emulator that counts from
 * one store to the other counts exactly what lies between. */
void port_gate(unsigned gate, int high) {
    FPGAIO_LED = (FPGAIO_LED & ~(1u << gate)) | ((uint32_t)high << gate);
}

void port_pin(unsigned pin, int high) {
    FPGAIO_MISC = (FPGAIO_MISC & ~(1u << pin)) | ((uint32_t)(high != 0) << pin);
}

#endif
