/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The port functions of the Raspberry Pi Picos, whichever RP2 chip is on them (RP2040 and RP2350 datasheets; names and
 * numbers as in pico-sdk, src/rp2040 and src/rp2350, hardware_regs).
 *
 * A board's .c has defined before: BOARD_NAME, PREFILL_PIN, DECODE_PIN; and included rp2040.h or its like, for what is
 * elsewhere or otherwise in each chip. */
#ifndef EDGE_RP2_H
#define EDGE_RP2_H

#include "cortex.h"
#include "port.h"
#include "ticks.h"
#include "wait.h"

#define ATOMIC_SET 0x2000u /* registers but those of SIO again, where a write sets bits, or clears them */
#define ATOMIC_CLEAR 0x3000u

#define RESETS_RESET_SET REGISTER(RESETS_BASE + ATOMIC_SET)
#define RESETS_RESET_CLEAR REGISTER(RESETS_BASE + ATOMIC_CLEAR)
#define RESETS_RESET_DONE REGISTER(RESETS_BASE + 0x08u)

#define XOSC_CTRL REGISTER(XOSC_BASE)
#define XOSC_CTRL_FREQ_RANGE_1_15MHZ 0xAA0u
#define XOSC_CTRL_ENABLE (0xFABu << 12)
#define XOSC_STATUS REGISTER(XOSC_BASE + 0x04u)
#define XOSC_STATUS_STABLE (1u << 31)
#define XOSC_STARTUP REGISTER(XOSC_BASE + 0x0Cu)

#define PLL_CS 0x00u /* both PLLs alike */
#define PLL_CS_LOCK (1u << 31)
#define PLL_PWR 0x04u
#define PLL_PWR_PD (1u << 0)
#define PLL_PWR_POSTDIVPD (1u << 3)
#define PLL_PWR_VCOPD (1u << 5)
#define PLL_FBDIV_INT 0x08u
#define PLL_PRIM 0x0Cu
#define PLL_PRIM_POSTDIV1_LSB 16u
#define PLL_PRIM_POSTDIV2_LSB 12u

#define CLOCKS_CLK_REF_CTRL REGISTER(CLOCKS_BASE + 0x30u)
#define CLOCKS_CLK_REF_CTRL_SRC_ROSC 0u
#define CLOCKS_CLK_REF_CTRL_SRC_XOSC 2u
#define CLOCKS_CLK_REF_SELECTED REGISTER(CLOCKS_BASE + 0x38u)
#define CLOCKS_CLK_SYS_CTRL REGISTER(CLOCKS_BASE + 0x3Cu) /* AUXSRC 0 is PLL_SYS */
#define CLOCKS_CLK_SYS_CTRL_SRC_REF 0u
#define CLOCKS_CLK_SYS_CTRL_SRC_AUX 1u
#define CLOCKS_CLK_SYS_SELECTED REGISTER(CLOCKS_BASE + 0x44u)
#define CLOCKS_CLK_PERI_CTRL REGISTER(CLOCKS_BASE + 0x48u) /* AUXSRC 0 is clk_sys */
#define CLOCKS_CLK_PERI_CTRL_ENABLE (1u << 11)
#define CLOCKS_CLK_USB_CTRL_ENABLE (1u << 11) /* AUXSRC 0 is PLL_USB */

#define IO_BANK0_GPIO_CTRL(pin) REGISTER(IO_BANK0_BASE + 0x04u + 8u * (pin))
#define IO_BANK0_FUNCSEL_UART 2u
#define IO_BANK0_FUNCSEL_SIO 5u
#define PADS_BANK0_GPIO(pin) REGISTER(PADS_BANK0_BASE + 0x04u + 4u * (pin))
#define PADS_BANK0_GPIO_PDE (1u << 2)
#define PADS_BANK0_GPIO_PUE (1u << 3)

#define UART0_UARTDR REGISTER(UART0_BASE)
#define UART0_UARTDR_BE (1u << 10)
#define UART0_UARTFR REGISTER(UART0_BASE + 0x18u)
#define UART0_UARTFR_RXFE (1u << 4)
#define UART0_UARTFR_TXFF (1u << 5)
#define UART0_UARTIBRD REGISTER(UART0_BASE + 0x24u)
#define UART0_UARTFBRD REGISTER(UART0_BASE + 0x28u)
#define UART0_UARTLCR_H REGISTER(UART0_BASE + 0x2Cu)
#define UART0_UARTLCR_H_FEN (1u << 4)
#define UART0_UARTLCR_H_WLEN_8 (3u << 5)
#define UART0_UARTCR REGISTER(UART0_BASE + 0x30u)
#define UART0_UARTCR_UARTEN (1u << 0)
#define UART0_UARTCR_TXE (1u << 8)
#define UART0_UARTCR_RXE (1u << 9)
#define UART0_UARTIFLS REGISTER(UART0_BASE + 0x34u) /* 0: interrupts with an eighth of the FIFO filled */
#define UART0_UARTIMSC REGISTER(UART0_BASE + 0x38u)
#define UART0_UARTIMSC_RXIM (1u << 4)
#define UART0_UARTIMSC_RTIM (1u << 6) /* fewer bytes, and none has come for the time of 32 bits */

#define TIMER_ALARM0 REGISTER(TIMER_BASE + 0x10u)
#define TIMER_ARMED REGISTER(TIMER_BASE + 0x20u)
#define TIMER_TIMERAWH REGISTER(TIMER_BASE + 0x24u)
#define TIMER_TIMERAWL REGISTER(TIMER_BASE + 0x28u)
#define TIMER_ALARM_0 (1u << 0)

/* USB's 48 MHz: 12 MHz * 100 = 1200 MHz in the VCO, divided by 5 and 5 */
#define PLL_USB_FBDIV 100u
#define PLL_USB_POSTDIV1 5u
#define PLL_USB_POSTDIV2 5u

#define XOSC_HZ 12000000u
#define ROSC_HZ 6500000u /* about: 1.8 to 12 MHz by temperature, voltage and chip */
#define BAUD 115200u
#define UART_TX_PIN 0u
#define UART_RX_PIN 1u

/* Turns of a wait of 5 cycles or more. The crystal's own delay is 6 ms, 0.07 of these turns at 12 MHz; a PLL locks
 * within 100 us, a multiplexer switches within some cycles of both clocks. */
#define TURNS_XOSC 200000u
#define TURNS_PLL 100000u
#define TURNS_SWITCH 10000u
#define TURNS_UART 1000000u

static void second_core_start(void); /* a board's .c has it, after this: rp2040_pair.h */

static uint32_t clk_sys_hz, timer_cycles; /* timer_cycles: of clk_sys in one count of TIMER */

/* Takes blocks out of reset, where they were put before, so that each starts as after power-on. */
static void reset_blocks(uint32_t blocks) {
    RESETS_RESET_SET = blocks;
    RESETS_RESET_CLEAR = blocks;
    wait_until(&RESETS_RESET_DONE, blocks, blocks, TURNS_SWITCH, "a block in reset");
}

/* Starts a PLL with a reference of 12 MHz; VCO: 12 MHz * fbdiv, 750 to 1600 MHz. */
static int pll_start(uint32_t base, uint32_t reset, uint32_t fbdiv, uint32_t postdiv1, uint32_t postdiv2,
                     const char *name) {
    reset_blocks(reset);
    REGISTER(base + PLL_CS) = 1; /* REFDIV */
    REGISTER(base + PLL_FBDIV_INT) = fbdiv;
    REGISTER(base + PLL_PWR + ATOMIC_CLEAR) = PLL_PWR_PD | PLL_PWR_VCOPD;
    if (!wait_until(&REGISTER(base + PLL_CS), PLL_CS_LOCK, PLL_CS_LOCK, TURNS_PLL, name)) {
        REGISTER(base + PLL_PWR + ATOMIC_SET) = PLL_PWR_PD | PLL_PWR_VCOPD;
        return 0;
    }
    REGISTER(base + PLL_PRIM) = postdiv1 << PLL_PRIM_POSTDIV1_LSB | postdiv2 << PLL_PRIM_POSTDIV2_LSB;
    REGISTER(base + PLL_PWR + ATOMIC_CLEAR) = PLL_PWR_POSTDIVPD;
    return 1;
}

/* clk_ref from the crystal; returns whether it is. */
static int crystal_start(void) {
    XOSC_CTRL = XOSC_CTRL_FREQ_RANGE_1_15MHZ;
    XOSC_STARTUP = XOSC_HZ / 1000u / 256u * 6u; /* in 256 cycles: 6 ms */
    XOSC_CTRL = XOSC_CTRL_FREQ_RANGE_1_15MHZ | XOSC_CTRL_ENABLE;
    if (!wait_until(&XOSC_STATUS, XOSC_STATUS_STABLE, XOSC_STATUS_STABLE, TURNS_XOSC, "the crystal")) return 0;
    CLOCKS_CLK_REF_CTRL = CLOCKS_CLK_REF_CTRL_SRC_XOSC;
    if (wait_until(&CLOCKS_CLK_REF_SELECTED, 1u << CLOCKS_CLK_REF_CTRL_SRC_XOSC, 1u << CLOCKS_CLK_REF_CTRL_SRC_XOSC,
                   TURNS_SWITCH, "clk_ref"))
        return 1;
    CLOCKS_CLK_REF_CTRL = CLOCKS_CLK_REF_CTRL_SRC_ROSC;
    return 0;
}

/* clk_sys from the PLL; returns whether it is. */
static int full_speed_start(void) {
    if (!pll_start(PLL_SYS_BASE, RESETS_RESET_PLL_SYS, PLL_SYS_FBDIV, PLL_SYS_POSTDIV1, PLL_SYS_POSTDIV2, "the PLL"))
        return 0;
    CLOCKS_CLK_SYS_CTRL = CLOCKS_CLK_SYS_CTRL_SRC_AUX;
    if (wait_until(&CLOCKS_CLK_SYS_SELECTED, 1u << CLOCKS_CLK_SYS_CTRL_SRC_AUX, 1u << CLOCKS_CLK_SYS_CTRL_SRC_AUX,
                   TURNS_SWITCH, "clk_sys"))
        return 1;
    CLOCKS_CLK_SYS_CTRL = CLOCKS_CLK_SYS_CTRL_SRC_REF;
    return 0;
}

/* Full speed, or what there is: the crystal's, the ring oscillator's. TIMER counts microseconds, or nearly. */
static void clocks_start(void) {
    CLOCKS_CLK_SYS_RESUS_CTRL = 0;
    CLOCKS_CLK_SYS_CTRL &= ~CLOCKS_CLK_SYS_CTRL_SRC_AUX; /* off the PLL first, where another image left it running */
    wait_until(&CLOCKS_CLK_SYS_SELECTED, 1u << CLOCKS_CLK_SYS_CTRL_SRC_REF, 1u << CLOCKS_CLK_SYS_CTRL_SRC_REF,
               TURNS_SWITCH, "clk_sys");
    uint32_t clk_ref_hz = crystal_start() ? XOSC_HZ : ROSC_HZ;
    clk_sys_hz = clk_ref_hz == XOSC_HZ && full_speed_start() ? FULL_SPEED_HZ : clk_ref_hz;
    CLOCKS_CLK_PERI_CTRL = CLOCKS_CLK_PERI_CTRL_ENABLE;
    uint32_t cycles = clk_ref_hz / 1000000u;
    timer_cycles = clk_sys_hz == clk_ref_hz ? cycles : clk_sys_hz / 1000000u;
    chip_timer_start(cycles);
}

static void pin_function(unsigned pin, uint32_t function) {
    IO_BANK0_GPIO_CTRL(pin) = function;
    chip_pin_open(pin);
}

static void uart_start(void) {
    uint32_t divider = (8u * clk_sys_hz / BAUD + 1u) / 2u; /* in 64ths of 16 cycles, rounded */
    UART0_UARTIBRD = divider / 64u;
    UART0_UARTFBRD = divider % 64u;
    UART0_UARTLCR_H = UART0_UARTLCR_H_WLEN_8 | UART0_UARTLCR_H_FEN; /* this write takes the divider over */
    UART0_UARTIFLS = 0;
    UART0_UARTIMSC = UART0_UARTIMSC_RXIM | UART0_UARTIMSC_RTIM;
    UART0_UARTCR = UART0_UARTCR_UARTEN | UART0_UARTCR_TXE | UART0_UARTCR_RXE;
    pin_function(UART_TX_PIN, IO_BANK0_FUNCSEL_UART);
    /* a pin that nothing is connected to must not look like a BREAK */
    PADS_BANK0_GPIO(UART_RX_PIN) = (PADS_BANK0_GPIO(UART_RX_PIN) | PADS_BANK0_GPIO_PUE) & ~PADS_BANK0_GPIO_PDE;
    pin_function(UART_RX_PIN, IO_BANK0_FUNCSEL_UART);
    nvic_enable(UART0_IRQ);
}

static int uart_read(void) {
    if (UART0_UARTFR & UART0_UARTFR_RXFE) return PORT_NOTHING;
    uint32_t word = UART0_UARTDR;
    return word & UART0_UARTDR_BE ? PORT_BREAK : (int)(word & 0xFFu);
}

static void uart_write(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (uint32_t turns = TURNS_UART; turns && UART0_UARTFR & UART0_UARTFR_TXFF; turns--) {
        }
        UART0_UARTDR = bytes[i];
    }
}

#define USB_PRODUCT "edge " BOARD_NAME " serial" /* pico's is no part of pico2's */

static uint32_t usb_micros(void) {
    return TIMER_TIMERAWL;
}

#include "rp_usb.h"

static uint8_t over_usb; /* the last byte came from there, so answers go there */

/* The controller wants 48 MHz, and clk_sys above that. Without, the UART is left. */
static void usb_start(void) {
    if (clk_sys_hz != FULL_SPEED_HZ) return;
    if (!pll_start(PLL_USB_BASE, RESETS_RESET_PLL_USB, PLL_USB_FBDIV, PLL_USB_POSTDIV1, PLL_USB_POSTDIV2, "USB's PLL"))
        return;
    CLOCKS_CLK_USB_CTRL = CLOCKS_CLK_USB_CTRL_ENABLE;
    reset_blocks(RESETS_RESET_USBCTRL);
    usb_init();
    nvic_enable(USBCTRL_IRQ);
}

const char *port_name(void) {
    return chip_is_emulated() ? "EMULATED " BOARD_NAME : BOARD_NAME;
}

void port_init(void) {
    reset_blocks(RESETS_RESET_IO_BANK0 | RESETS_RESET_PADS_BANK0 | RESETS_RESET_UART0 | CHIP_RESETS);
    clocks_start();
    chip_cycles_start(); /* first, so that TIMER is never ahead */
    reset_blocks(RESETS_RESET_TIMER);
    TIMER_INTE = TIMER_ALARM_0;
    nvic_enable(TIMER_IRQ_0);
    port_pin(PREFILL_PIN, 0);
    port_pin(DECODE_PIN, 0);
    second_core_start();
    uart_start();
    usb_start();
}

int port_read(void) {
    int byte = uart_read();
    if (byte != PORT_NOTHING) {
        over_usb = 0;
        return byte;
    }
    byte = usb_read();
    if (byte != PORT_NOTHING) over_usb = 1;
    return byte;
}

void port_write(const uint8_t *bytes, size_t count) {
    if (over_usb) {
        usb_write(bytes, count);
    } else {
        uart_write(bytes, count);
    }
}

static uint32_t slept; /* ticks in which the fine counter may have stood still */

static uint64_t timer(void) {
    uint32_t high = TIMER_TIMERAWH, low = TIMER_TIMERAWL, again = TIMER_TIMERAWH;
    if (again != high) low = TIMER_TIMERAWL; /* it wrapped between, and will not again for an hour */
    return (uint64_t)again << 32 | low;
}

uint64_t port_ticks(void) {
    uint32_t fine = chip_cycles() + slept;
    return ticks_nearest(timer() * timer_cycles, fine, CHIP_CYCLES_BITS);
}

/* In a fault nothing pending ends a WFI: its priority is above all. Awake, USB still answers and can start BOOTSEL. */
static int in_fault(void) {
    uint32_t ipsr;
    __asm volatile("mrs %0, ipsr" : "=r"(ipsr));
    return ipsr != 0;
}

/* A byte ends it: the interrupts of UART and USB stay pending as long as there is one. So does an alarm after 10 ms. */
void port_idle(void) {
    usb_poll();
    if (usb_waiting() || in_fault()) return;
    uint64_t before = port_ticks();
    TIMER_ALARM0 = TIMER_TIMERAWL + 10000u;
    sleep_until_interrupt();
    slept = ticks_after_sleep(before, timer() * timer_cycles, chip_cycles());
    TIMER_ARMED = TIMER_ALARM_0; /* a write disarms */
    TIMER_INTR = TIMER_ALARM_0;
    nvic_clear_pending(TIMER_IRQ_0);
    nvic_clear_pending(UART0_IRQ);
    nvic_clear_pending(USBCTRL_IRQ);
}

uint32_t port_millis(void) {
    return (uint32_t)(timer() / 1000u);
}

uint32_t port_ticks_hz(void) {
    return clk_sys_hz;
}

/* The bus is looked at before and after each step, and not within. */
void port_gate(unsigned gate, int high) {
    uint32_t pin = 1u << (gate == PORT_GATE_PREFILL ? PREFILL_PIN : DECODE_PIN);
    if (high) usb_poll();
    *(high ? &SIO_GPIO_OUT_SET : &SIO_GPIO_OUT_CLR) = pin;
    if (!high) usb_poll();
}

void port_pin(unsigned pin, int high) {
    *(high ? &SIO_GPIO_OUT_SET : &SIO_GPIO_OUT_CLR) = 1u << pin;
    SIO_GPIO_OE_SET = 1u << pin;
    pin_function(pin, IO_BANK0_FUNCSEL_SIO);
}

#endif
