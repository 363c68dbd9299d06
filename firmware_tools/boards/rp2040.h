/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What is the RP2040's own: where things are, its second stage, ticks from SysTick and watchdog (its datasheet; names
 * and numbers as in pico-sdk, src/rp2040/hardware_regs). rp2.h has what the RP2350 shares, and comes after this. */
#ifndef EDGE_RP2040_H
#define EDGE_RP2040_H

#include "cortex.h"
#include "rp2040_boot2.h"

#define ROM_VERSION 1
#include "rp_rom.h"

#define SYSINFO_BASE 0x40000000u
#define CLOCKS_BASE 0x40008000u
#define RESETS_BASE 0x4000C000u
#define IO_BANK0_BASE 0x40014000u
#define PADS_BANK0_BASE 0x4001C000u
#define XOSC_BASE 0x40024000u
#define PLL_SYS_BASE 0x40028000u
#define PLL_USB_BASE 0x4002C000u
#define UART0_BASE 0x40034000u
#define TIMER_BASE 0x40054000u
#define WATCHDOG_BASE 0x40058000u
#define ROSC_BASE 0x40060000u
#define SIO_BASE 0xD0000000u

#define RESETS_RESET_IO_BANK0 (1u << 5)
#define RESETS_RESET_PADS_BANK0 (1u << 8)
#define RESETS_RESET_PLL_SYS (1u << 12)
#define RESETS_RESET_PLL_USB (1u << 13)
#define RESETS_RESET_SYSINFO (1u << 19)
#define RESETS_RESET_TIMER (1u << 21)
#define RESETS_RESET_UART0 (1u << 22)
#define RESETS_RESET_USBCTRL (1u << 24)

#define CLOCKS_CLK_USB_CTRL REGISTER(CLOCKS_BASE + 0x54u)
#define CLOCKS_CLK_SYS_RESUS_CTRL REGISTER(CLOCKS_BASE + 0x78u)

#define SIO_GPIO_OUT_SET REGISTER(SIO_BASE + 0x14u)
#define SIO_GPIO_OUT_CLR REGISTER(SIO_BASE + 0x18u)
#define SIO_GPIO_OE_SET REGISTER(SIO_BASE + 0x24u)

#define TIMER_INTR REGISTER(TIMER_BASE + 0x34u)
#define TIMER_INTE REGISTER(TIMER_BASE + 0x38u)

#define WATCHDOG_TICK REGISTER(WATCHDOG_BASE + 0x2Cu)
#define WATCHDOG_TICK_ENABLE (1u << 9)
#define WATCHDOG_TICK_CYCLES_BITS 0x1FFu

#define SYSINFO_CHIP_ID REGISTER(SYSINFO_BASE)
#define SYSINFO_CHIP_ID_REVISION_LSB 28u /* 1: B0 and B1, 2: B2 */
#define SYSINFO_PLATFORM REGISTER(SYSINFO_BASE + 0x04u)
#define SYSINFO_PLATFORM_ASIC (1u << 1)
#define ROSC_STATUS REGISTER(ROSC_BASE + 0x18u)
#define ROSC_STATUS_BITS 0x81011000u /* those that there are */

#define TIMER_IRQ_0 0u
#define USBCTRL_IRQ 5u
#define UART0_IRQ 20u

/* full speed: 12 MHz * 125 = 1500 MHz in the VCO, divided by 6 and 2 */
#define PLL_SYS_FBDIV 125u
#define PLL_SYS_POSTDIV1 6u
#define PLL_SYS_POSTDIV2 2u
#define FULL_SPEED_HZ 125000000u
#define CHIP_RESETS RESETS_RESET_SYSINFO /* what else chip_is_emulated needs */

/* rp2040js claims to be silicon in PLATFORM, but its ring oscillator answers with bits that there are none of. */
static int chip_is_emulated(void) {
    return !(SYSINFO_PLATFORM & SYSINFO_PLATFORM_ASIC) || (ROSC_STATUS & ~ROSC_STATUS_BITS);
}

/* TIMER counts once in so many cycles of clk_ref. */
static void chip_timer_start(uint32_t cycles) {
    WATCHDOG_TICK = 0;
    WATCHDOG_TICK = WATCHDOG_TICK_ENABLE | (cycles & WATCHDOG_TICK_CYCLES_BITS);
}

/* There is no cycle counter, so SysTick is it. */
#define CHIP_CYCLES_BITS SYST_BITS

static void chip_cycles_start(void) {
    SYST_RVR = (1u << SYST_BITS) - 1u;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_ENABLE | SYST_CSR_CLKSOURCE;
}

static inline uint32_t chip_cycles(void) {
    return 0u - SYST_CVR;
}

/* USB: the first steppings cannot take a packet back (erratum E2), and all may hang near a frame's end (erratum E15). */
#define USB_FRAME_END 800u

static int chip_can_revoke(void) {
    return SYSINFO_CHIP_ID >> SYSINFO_CHIP_ID_REVISION_LSB >= 2u;
}

/* The chip has no number of its own; the flash chip has, and tells it only when nothing runs from it. */
static const char *chip_serial_number(void) {
    return "";
}

static void chip_pin_open(unsigned pin) {
    (void)pin; /* pads are ready from reset on */
}

#endif
