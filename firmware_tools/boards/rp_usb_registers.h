/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The USB controller that RP2040 and RP2350 share: its memory and registers, at the same addresses in both (RP2040
 * datasheet 4.1.3 and 4.1.4; RP2350 datasheet 12.7). */
#ifndef EDGE_RP_USB_REGISTERS_H
#define EDGE_RP_USB_REGISTERS_H

#include <stdint.h>

#define USBCTRL_DPRAM_BASE 0x50100000u
#define USBCTRL_REGS_BASE 0x50110000u

#define USB_ADDR_ENDP (USBCTRL_REGS_BASE + 0x00u)
#define USB_MAIN_CTRL (USBCTRL_REGS_BASE + 0x40u)
#define USB_MAIN_CTRL_CONTROLLER_EN (1u << 0)
#define USB_SOF_RD (USBCTRL_REGS_BASE + 0x48u)
#define USB_SIE_CTRL (USBCTRL_REGS_BASE + 0x4Cu)
#define USB_SIE_CTRL_PULLUP_EN (1u << 16)
#define USB_SIE_CTRL_EP0_INT_1BUF (1u << 29)
#define USB_SIE_STATUS (USBCTRL_REGS_BASE + 0x50u)
#define USB_SIE_STATUS_SETUP_REC (1u << 17)
#define USB_SIE_STATUS_BUS_RESET (1u << 19)
#define USB_BUFF_STATUS (USBCTRL_REGS_BASE + 0x58u)
#define USB_BUFF_STATUS_EP0_IN (1u << 0)
#define USB_BUFF_STATUS_EP0_OUT (1u << 1)
#define USB_BUFF_STATUS_EP2_IN (1u << 4)
#define USB_BUFF_STATUS_EP2_OUT (1u << 5)
#define USB_EP_ABORT (USBCTRL_REGS_BASE + 0x60u)
#define USB_EP_ABORT_DONE (USBCTRL_REGS_BASE + 0x64u)
#define USB_EP_STALL_ARM (USBCTRL_REGS_BASE + 0x68u)
#define USB_EP_STALL_ARM_EP0_IN (1u << 0)
#define USB_EP_STALL_ARM_EP0_OUT (1u << 1)
#define USB_USB_MUXING (USBCTRL_REGS_BASE + 0x74u)
#define USB_USB_MUXING_TO_PHY (1u << 0)
#define USB_USB_MUXING_SOFTCON (1u << 3)
#define USB_USB_PWR (USBCTRL_REGS_BASE + 0x78u)
#define USB_USB_PWR_VBUS_DETECT (1u << 2)
#define USB_USB_PWR_VBUS_DETECT_OVERRIDE_EN (1u << 3)
#define USB_INTE (USBCTRL_REGS_BASE + 0x90u)
#define USB_INTE_BUFF_STATUS (1u << 4)
#define USB_INTE_BUS_RESET (1u << 12)
#define USB_INTE_SETUP_REQ (1u << 16)

/* A word of DPRAM for each endpoint and direction: what kind it is and where its buffer lies, and what is in the buffer. */
#define USB_ENDPOINT_CONTROL(n, out) (USBCTRL_DPRAM_BASE + 8u * (n) + 4u * (out))
#define USB_BUFFER_CONTROL(n, out) (USBCTRL_DPRAM_BASE + 0x80u + 8u * (n) + 4u * (out))
#define ENDPOINT_ENABLE (1u << 31)
#define ENDPOINT_INTERRUPT_PER_BUFFER (1u << 29)
#define ENDPOINT_TYPE(type) ((uint32_t)(type) << 26)
#define BUFFER_LENGTH 0x3FFu
#define BUFFER_AVAILABLE (1u << 10) /* the controller may take it, else it answers NAK */
#define BUFFER_STALL (1u << 11)
#define BUFFER_DATA1 (1u << 13)
#define BUFFER_FULL (1u << 15)

#define USB_SETUP USBCTRL_DPRAM_BASE
#define USB_EP0_BUFFER (USBCTRL_DPRAM_BASE + 0x100u) /* of both directions */
#define USB_DPRAM_BYTES 0x1000u

#ifndef USB_SIMULATED /* the tests have a simulated controller instead */
static inline uint32_t usb_get(uint32_t address) {
    return *(volatile uint32_t *)address;
}

static inline void usb_put(uint32_t address, uint32_t value) {
    *(volatile uint32_t *)address = value;
}

static inline uint8_t usb_get_byte(uint32_t address) {
    return *(volatile uint8_t *)address;
}

static inline void usb_put_byte(uint32_t address, uint8_t value) {
    *(volatile uint8_t *)address = value;
}

/* The controller has its own clock: AVAILABLE must come later than what it makes valid (datasheet 4.1.2.5.1). */
static inline void usb_settle(void) {
    __asm volatile("nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop" ::: "memory");
}
#endif

#endif
