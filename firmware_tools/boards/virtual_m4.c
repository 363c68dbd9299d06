/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* virtual-m4: the registers of Arm's MPS2 board with image AN386, as QEMU's mps2-an386 has them (Arm DAI 0386). */
#include "port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* UART0, a CMSDK APB UART (Arm DDI 0479, 4.3) */
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTCLEAR REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_RX_RXINT 0xBu /* transmitter, receiver and receive interrupt on */
#define INT_RX 2u

/* FPGA I/O: LEDs and free-running counters */
#define FPGAIO_LED REGISTER(0x40028000u)
#define FPGAIO_CLK100HZ REGISTER(0x40028014u)
#define FPGAIO_COUNTER REGISTER(0x40028018u) /* 32 bits at 25 MHz: wraps after 171 s */
#define FPGAIO_PRESCALE REGISTER(0x4002801Cu)
#define COUNTER_HZ 25000000u

/* the core's own (ARMv7-M Architecture Reference Manual, B3) */
#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define NVIC_ISER0 REGISTER(0xE000E100u)
#define NVIC_ICPR0 REGISTER(0xE000E280u)
#define ICSR REGISTER(0xE000ED04u)
#define CSR_ON_WITH_INTERRUPT 7u
#define ICSR_PENDSTCLR (1u << 25)
#define IRQ_UART0_RX 0u

const char port_name[] = "EMULATED virtual-m4";

void port_init(void) {
    UART_BAUDDIV = 217; /* 25 MHz / 217 = 115,207 baud */
    UART_CTRL = CTRL_TX_RX_RXINT;
    NVIC_ISER0 = 1u << IRQ_UART0_RX;
    FPGAIO_PRESCALE = 0; /* COUNTER at the full 25 MHz */
    FPGAIO_LED = 0;
    SYST_RVR = COUNTER_HZ / 100u - 1u;
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

/* Interrupts are masked, so that a pending one ends the WFI and is never taken. The UART's comes with a byte that was
 * not there when port_read was asked last; SysTick's comes after 10 ms, so that time-outs are seen. */
void port_idle(void) {
    SYST_CVR = 0;
    SYST_CSR = CSR_ON_WITH_INTERRUPT;
    __asm volatile("dsb\n wfi" ::: "memory");
    SYST_CSR = 0;
    ICSR = ICSR_PENDSTCLR;
    UART_INTCLEAR = INT_RX;
    NVIC_ICPR0 = 1u << IRQ_UART0_RX;
}

/* The 100 Hz counter tells how often COUNTER has wrapped: the answer is the time nearest to it that ends in COUNTER's
 * 32 bits, whatever passed since the last call. */
uint64_t port_ticks(void) {
    uint32_t low = FPGAIO_COUNTER;
    uint64_t about = (uint64_t)FPGAIO_CLK100HZ * (COUNTER_HZ / 100u);
    return about + (uint64_t)(int64_t)(int32_t)(low - (uint32_t)about);
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
