/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* A serial port over USB (CDC-ACM, full speed) on the controller that RP2040 and RP2350 share, polled: no interrupt is
 * ever taken. (RP2040 datasheet 4.1; USB 2.0 chapters 8 and 9; USB CDC 1.2 and PSTN 1.2.)
 *
 * A board's .c includes this once and has defined before: USB_PRODUCT; usb_micros, a timer of microseconds;
 * chip_can_revoke, whether a packet that waits can be taken back; chip_serial_number, "" where there is none; rom_bootsel,
 * which does not come back where there is a boot loader; and USB_FRAME_END where erratum E15 applies. It has given the
 * controller 48 MHz and released it from reset before it calls usb_init.
 *
 * Nothing is lost while the model computes: a packet that has not been read yet is not overwritten, the controller
 * answers NAK by itself and the host tries again. Nothing hangs where no host reads: see usb_write.
 *
 * The numbers by which a computer knows the device: Raspberry Pi's vendor id is theirs to give (and no firmware may assume
 * it), an own one costs money. 1209:0001 is what pid.codes has set aside for tests: it is right for a board on its
 * owner's desk and not for a product, which defines USB_VENDOR and USB_DEVICE as its own. The product's text is what
 * `edge ports` knows our boards by. */
#ifndef EDGE_RP_USB_H
#define EDGE_RP_USB_H

#include "port.h"
#include "rp_usb_control.h"

enum {
    USB_PATIENCE_US = 2000000,  /* for a host that has opened the port and does not read */
    USB_IMPATIENCE_US = 100000, /* for one that has not, or a bus without a sign of life */
};

/* Makes the device appear. Its wishes are seen from here on, and only, by usb_poll. */
static void usb_init(void) {
    for (uint32_t at = 0; at < USB_DPRAM_BYTES; at += 4) usb_put(USBCTRL_DPRAM_BASE + at, 0);
    usb_put(USB_USB_MUXING, USB_USB_MUXING_TO_PHY | USB_USB_MUXING_SOFTCON);
    usb_put(USB_USB_PWR, USB_USB_PWR_VBUS_DETECT | USB_USB_PWR_VBUS_DETECT_OVERRIDE_EN); /* no pin tells of the cable */
    usb_put(USB_MAIN_CTRL, USB_MAIN_CTRL_CONTROLLER_EN); /* and, on an RP2350, the PHY's isolation off */
    usb_reset();
    usb_put(USB_INTE, USB_INTE_BUFF_STATUS | USB_INTE_BUS_RESET | USB_INTE_SETUP_REQ); /* they end a WFI */
    usb_put(USB_SIE_CTRL, USB_SIE_CTRL_EP0_INT_1BUF | USB_SIE_CTRL_PULLUP_EN);
    usb.on = 1;
}

/* Does what the bus asks for. A host waits 5 s for the answer to a control request, and longer for all else. */
static void usb_poll(void) {
    if (!usb.on) return;
    if (usb_get(USB_SIE_STATUS) & USB_SIE_STATUS_BUS_RESET) {
        usb_reset();
        usb_put(USB_SIE_STATUS, USB_SIE_STATUS_BUS_RESET);
    }
    uint32_t done = usb_get(USB_BUFF_STATUS);
    usb_put(USB_BUFF_STATUS, done);
    if (done & USB_BUFF_STATUS_EP2_IN && usb.in_armed) usb.in_armed = usb.deaf = 0;
    if (done & USB_BUFF_STATUS_EP2_OUT && usb.out_armed) usb_received();
    usb_control(done);
    if (usb_get(USB_SIE_STATUS) & USB_SIE_STATUS_SETUP_REC) {
        uint8_t setup[8];
        usb_put(USB_SIE_STATUS, USB_SIE_STATUS_SETUP_REC);
        for (unsigned i = 0; i < sizeof setup; i++) setup[i] = usb_get_byte(USB_SETUP + i);
        /* where the next one has come meanwhile, this may be half of either, and is of no use any more */
        if (!(usb_get(USB_SIE_STATUS) & USB_SIE_STATUS_SETUP_REC)) usb_setup(setup);
    }
    usb_flush();
}

/* Whether bytes wait to be sent that no interrupt will tell of: no time to sleep. */
static int usb_waiting(void) {
    return usb.configured && !usb.in_armed && (usb.in_bytes || usb.in_full_before);
}

/* The next byte from the host, PORT_NOTHING or PORT_BREAK. */
static int usb_read(void) {
    if (usb.out_at == usb.out_bytes || usb.broke) usb_poll();
    if (usb.broke) {
        usb.broke = 0;
        return PORT_BREAK;
    }
    if (usb.out_at == usb.out_bytes) return PORT_NOTHING;
    int byte = usb_get_byte(USBCTRL_DPRAM_BASE + USB_OUT_BUFFER + usb.out_at++);
    usb_receive(); /* the next packet, when this one is read to its end */
    return byte;
}

/* Waits until the next packet has room; returns whether it has. A host that has opened the port gets USB_PATIENCE_US, one
 * that has not (or is asleep, or unplugged) USB_IMPATIENCE_US. After that it is deaf until it gives a sign of life:
 * so the board waits once for who does not read, and not for each packet. */
static int usb_room(void) {
    uint32_t start = usb_micros();
    for (;;) {
        usb_poll();
        if (!usb.configured) return 0;
        if (usb.in_bytes < USB_PACKET) return 1;
        uint32_t waited = usb_micros() - start;
        if (waited > (usb.terminal_ready && usb.frames_come ? USB_PATIENCE_US : USB_IMPATIENCE_US)) usb.deaf = 1;
        if (usb.deaf) return 0;
    }
}

/* Sends bytes, in full packets; the rest goes when usb_poll is called next. Drops them where no host is or reads. */
static void usb_write(const uint8_t *bytes, size_t count) {
    while (count && usb.configured && !usb.deaf) {
        if (usb.in_bytes == USB_PACKET && !usb_room()) break;
        usb.in[usb.in_bytes++] = *bytes++;
        count--;
    }
    if (usb.in_bytes == USB_PACKET || count) usb_poll();
    if (usb.deaf) usb.in_bytes = 0;
}

#endif
