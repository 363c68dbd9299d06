/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What is the RP2350's own: where things are, the block that its boot ROM looks for, ticks from DWT, isolated pads (its
 * datasheet; names and numbers as in pico-sdk, src/rp2350/hardware_regs). rp2.h has what the RP2040 shares, and comes
 * after this. One Arm core, in secure state; the other one and the RISC-V cores sleep in the boot ROM. */
#ifndef EDGE_RP2350_H
#define EDGE_RP2350_H

#include "cortex.h"
#include "section.h"

#define ROM_VERSION 2
#include "rp_rom.h"

#define SYSINFO_BASE 0x40000000u
#define CLOCKS_BASE 0x40010000u
#define RESETS_BASE 0x40020000u
#define IO_BANK0_BASE 0x40028000u
#define PADS_BANK0_BASE 0x40038000u
#define XOSC_BASE 0x40048000u
#define PLL_SYS_BASE 0x40050000u
#define PLL_USB_BASE 0x40058000u
#define UART0_BASE 0x40070000u
#define TIMER_BASE 0x400B0000u /* TIMER0 */
#define TICKS_BASE 0x40108000u
#define SIO_BASE 0xD0000000u

#define RESETS_RESET_IO_BANK0 (1u << 6)
#define RESETS_RESET_PADS_BANK0 (1u << 9)
#define RESETS_RESET_PLL_SYS (1u << 14)
#define RESETS_RESET_PLL_USB (1u << 15)
#define RESETS_RESET_SYSINFO (1u << 21)
#define RESETS_RESET_TIMER (1u << 23)
#define RESETS_RESET_UART0 (1u << 26)
#define RESETS_RESET_USBCTRL (1u << 28)

#define CLOCKS_CLK_USB_CTRL REGISTER(CLOCKS_BASE + 0x60u)
#define CLOCKS_CLK_SYS_RESUS_CTRL REGISTER(CLOCKS_BASE + 0x84u)

#define SIO_GPIO_OUT_SET REGISTER(SIO_BASE + 0x18u)
#define SIO_GPIO_OUT_CLR REGISTER(SIO_BASE + 0x20u)
#define SIO_GPIO_OE_SET REGISTER(SIO_BASE + 0x38u)

#define TIMER_INTR REGISTER(TIMER_BASE + 0x3Cu)
#define TIMER_INTE REGISTER(TIMER_BASE + 0x40u)

#define TICKS_TIMER0_CTRL REGISTER(TICKS_BASE + 0x18u)
#define TICKS_TIMER0_CTRL_ENABLE (1u << 0)
#define TICKS_TIMER0_CYCLES REGISTER(TICKS_BASE + 0x1Cu)

#define SYSINFO_PLATFORM REGISTER(SYSINFO_BASE + 0x08u)
#define SYSINFO_PLATFORM_ASIC (1u << 1)

#define PADS_BANK0_GPIO_IE (1u << 6)
#define PADS_BANK0_GPIO_OD (1u << 7)
#define PADS_BANK0_GPIO_ISO (1u << 8)

#define TIMER_IRQ_0 0u
#define USBCTRL_IRQ 14u
#define UART0_IRQ 33u

/* full speed: 12 MHz * 125 = 1500 MHz in the VCO, divided by 5 and 2 */
#define PLL_SYS_FBDIV 125u
#define PLL_SYS_POSTDIV1 5u
#define PLL_SYS_POSTDIV2 2u
#define FULL_SPEED_HZ 150000000u
#define CHIP_RESETS RESETS_RESET_SYSINFO /* what else chip_is_emulated needs */

/* What makes of flash an image that the boot ROM starts: a block within the first 4 KB, here behind the vectors, which it
 * takes from where flash begins, since the block names no other place (RP2350 datasheet 5.9). The block is a list of
 * items: the image's type, then the end with the words of the items before; then the distance to the next block, none. */
#define PICOBIN_BLOCK_MARKER_START 0xFFFFDED3u
#define PICOBIN_BLOCK_MARKER_END 0xAB123579u
#define PICOBIN_BLOCK_ITEM_1BS_IMAGE_TYPE 0x42u
#define PICOBIN_BLOCK_ITEM_2BS_LAST 0xFFu
#define PICOBIN_IMAGE_TYPE_IMAGE_TYPE_EXE (1u << 0)
#define PICOBIN_IMAGE_TYPE_EXE_SECURITY_S (2u << 4)
#define PICOBIN_IMAGE_TYPE_EXE_CPU_ARM (0u << 8)
#define PICOBIN_IMAGE_TYPE_EXE_CHIP_RP2350 (1u << 12)

EDGE_ABOUT static const uint32_t image_definition[] = {
    PICOBIN_BLOCK_MARKER_START,
    (PICOBIN_IMAGE_TYPE_IMAGE_TYPE_EXE | PICOBIN_IMAGE_TYPE_EXE_SECURITY_S | PICOBIN_IMAGE_TYPE_EXE_CPU_ARM |
     PICOBIN_IMAGE_TYPE_EXE_CHIP_RP2350) << 16 | 1u << 8 | PICOBIN_BLOCK_ITEM_1BS_IMAGE_TYPE,
    1u << 8 | PICOBIN_BLOCK_ITEM_2BS_LAST,
    0,
    PICOBIN_BLOCK_MARKER_END,
};

static int chip_is_emulated(void) {
    return !(SYSINFO_PLATFORM & SYSINFO_PLATFORM_ASIC);
}

/* TIMER counts once in so many cycles of clk_ref. */
static void chip_timer_start(uint32_t cycles) {
    TICKS_TIMER0_CTRL = 0;
    TICKS_TIMER0_CYCLES = cycles;
    TICKS_TIMER0_CTRL = TICKS_TIMER0_CTRL_ENABLE;
}

#define CHIP_CYCLES_BITS 32u

static void chip_cycles_start(void) {
    cycles_start();
}

static inline uint32_t chip_cycles(void) {
    return DWT_CYCCNT;
}

/* Pads are isolated from reset on, and their inputs off. Inputs that float up are held there by a pull-down (erratum
 * RP2350-E9): all of ours are outputs, but for the UART's, which is pulled up. */
static void chip_pin_open(unsigned pin) {
    volatile uint32_t *pad = &REGISTER(PADS_BANK0_BASE + 0x04u + 4u * pin);
    *pad = (*pad | PADS_BANK0_GPIO_IE) & ~(PADS_BANK0_GPIO_ISO | PADS_BANK0_GPIO_OD);
}

/* USB: none of the RP2040's errata. */
static int chip_can_revoke(void) {
    return 1;
}

static const char *chip_serial_number(void) {
    return rom_chip_id();
}

#endif
