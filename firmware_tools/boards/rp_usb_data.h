/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The bytes of the USB serial port of rp_usb.h, and the state of the whole. */
#ifndef EDGE_RP_USB_DATA_H
#define EDGE_RP_USB_DATA_H

#include "rp_usb_descriptors.h"
#include "rp_usb_registers.h"

enum {
    USB_ABORT_TURNS = 10000, /* a packet on the way takes 50 us */
    USB_SILENCE_US = 3000,   /* a frame begins every 1000 */
    USB_LOOK_US = 100,       /* who looks as often as that sees when one begins */
};

/* where our buffers lie in the controller's memory */
enum { USB_NOTIFICATION_BUFFER = 0x180, USB_OUT_BUFFER = 0x1C0, USB_IN_BUFFER = 0x200 };

enum { STAGE_IDLE, STAGE_DATA_IN, STAGE_STATUS_OUT, STAGE_DATA_OUT, STAGE_STATUS_IN };
enum { DIRECTION_IN = 0, DIRECTION_OUT = 1 };

static struct {
    uint8_t on; /* usb_init has run */
    /* the control request that is being answered */
    uint8_t stage;
    uint8_t data1;       /* of its next packet */
    uint8_t short_end;   /* the answer is shorter than was asked for: a packet that is not full must end it */
    const uint8_t *left; /* what has not been sent yet */
    uint16_t left_bytes;
    uint8_t built[USB_PACKET]; /* an answer that is no constant */
    uint8_t address;           /* to be taken on after the status stage; 0: none */
    uint8_t touched;           /* the boot loader is to be started after the status stage */
    /* what the host has set */
    uint8_t configured;
    uint8_t terminal_ready; /* DTR: a program has opened the port */
    uint8_t coding[USB_CODING_BYTES];
    uint8_t broke;          /* a BREAK that has not been read */
    uint8_t halted[2];      /* endpoint 2 by direction */
    /* bytes from the host: those of one packet, which stay in the controller's memory until they are read */
    uint8_t out_data1, out_armed, out_at, out_bytes;
    /* bytes to the host: the next packet */
    uint8_t in_data1, in_armed, in_full_before, in_bytes;
    uint8_t in[USB_PACKET];
    uint8_t deaf; /* nobody has read for so long that what is written is dropped at once */
    /* the bus's frames, one a millisecond: do they come, and is it known when this one began */
    uint8_t frames_come, frame_known;
    uint32_t frame, frame_us, looked_us;
} usb;

static void usb_arm(uint32_t control, uint32_t value) {
    usb_put(control, value);
    usb_settle();
    usb_put(control, value | BUFFER_AVAILABLE);
}

/* Takes back what endpoint number n may be about to send or receive. The first RP2040s cannot (erratum E2): there the
 * packet is overwritten, and one that is on its way at this moment goes wrong, which the host repeats. */
static void usb_revoke(unsigned n, unsigned out) {
    uint32_t bit = 1u << (2u * n + out);
    if (chip_can_revoke()) {
        usb_put(USB_EP_ABORT, bit);
        for (uint32_t turns = USB_ABORT_TURNS; turns && !(usb_get(USB_EP_ABORT_DONE) & bit); turns--) {
        }
        usb_put(USB_BUFFER_CONTROL(n, out), 0);
        usb_put(USB_EP_ABORT_DONE, bit);
        usb_put(USB_EP_ABORT, 0);
    } else {
        usb_put(USB_BUFFER_CONTROL(n, out), 0);
    }
    usb_put(USB_BUFF_STATUS, bit);
}

static void usb_receive(void) {
    if (usb.out_armed || usb.out_at < usb.out_bytes || usb.halted[DIRECTION_OUT]) return;
    usb_arm(USB_BUFFER_CONTROL(USB_DATA, DIRECTION_OUT), USB_PACKET | (usb.out_data1 ? BUFFER_DATA1 : 0));
    usb.out_data1 ^= 1;
    usb.out_armed = 1;
}

static void usb_received(void) {
    uint32_t bytes = usb_get(USB_BUFFER_CONTROL(USB_DATA, DIRECTION_OUT)) & BUFFER_LENGTH;
    usb.out_armed = 0;
    usb.out_at = 0;
    usb.out_bytes = bytes < USB_PACKET ? (uint8_t)bytes : USB_PACKET;
    if (bytes) usb.deaf = 0;
    usb_receive(); /* where it was empty */
}

/* Looks whether the bus lives; returns whether a packet may be given to the controller now. Near a frame's end the
 * RP2040's may hang for ever when a hub cuts the transfer short (erratum E15): then the packet waits for the next frame,
 * and for one whose beginning was seen. */
static int usb_in_time(void) {
    uint32_t now = usb_micros();
    uint32_t frame = usb_get(USB_SOF_RD);
    if (frame != usb.frame) {
        usb.frame_known = now - usb.looked_us < USB_LOOK_US;
        usb.frame = frame;
        usb.frame_us = usb.frame_known ? usb.looked_us : now; /* it began after that */
        usb.frames_come = 1;
    }
    usb.looked_us = now;
    uint32_t age_us = now - usb.frame_us;
    if (age_us > USB_SILENCE_US) usb.frames_come = 0; /* suspended or unplugged: no transfer that could go wrong */
#ifdef USB_FRAME_END
    return !usb.frames_come || (usb.frame_known && age_us < USB_FRAME_END);
#else
    return 1;
#endif
}

/* Sends what waits. After a full packet comes an empty one where nothing follows: the host waits for either. */
static void usb_flush(void) {
    int in_time = usb_in_time();
    if (!usb.configured || usb.in_armed || usb.halted[DIRECTION_IN] || !in_time) return;
    if (usb.in_bytes == 0 && !usb.in_full_before) return;
    for (uint32_t i = 0; i < usb.in_bytes; i++) usb_put_byte(USBCTRL_DPRAM_BASE + USB_IN_BUFFER + i, usb.in[i]);
    usb_arm(USB_BUFFER_CONTROL(USB_DATA, DIRECTION_IN), BUFFER_FULL | usb.in_bytes | (usb.in_data1 ? BUFFER_DATA1 : 0));
    usb.in_data1 ^= 1;
    usb.in_armed = 1;
    usb.in_full_before = usb.in_bytes == USB_PACKET;
    usb.in_bytes = 0;
}

/* Both directions begin anew with DATA0; what was on its way is dropped, what came and was not read is kept. */
static void usb_restart(unsigned out) {
    usb_revoke(USB_DATA, out);
    usb.halted[out] = 0;
    if (out) {
        usb.out_armed = usb.out_data1 = 0;
        if (usb.configured) usb_receive();
    } else {
        usb.in_armed = usb.in_data1 = usb.in_full_before = 0;
    }
}

static void usb_halt(unsigned out) {
    usb_revoke(USB_DATA, out);
    usb.halted[out] = 1;
    if (out) {
        usb.out_armed = 0;
    } else {
        usb.in_armed = 0;
    }
    usb_put(USB_BUFFER_CONTROL(USB_DATA, out), BUFFER_STALL);
}

static void usb_configure(uint8_t configuration) {
    usb.configured = configuration;
    usb.out_at = usb.out_bytes = usb.in_bytes = usb.deaf = 0;
    if (configuration == 0) usb.terminal_ready = 0;
    uint32_t enable = configuration ? ENDPOINT_ENABLE | ENDPOINT_INTERRUPT_PER_BUFFER : 0;
    usb_put(USB_ENDPOINT_CONTROL(USB_NOTIFICATION, DIRECTION_IN),
            enable | ENDPOINT_TYPE(USB_TYPE_INTERRUPT) | USB_NOTIFICATION_BUFFER);
    usb_put(USB_ENDPOINT_CONTROL(USB_DATA, DIRECTION_OUT),
            enable | ENDPOINT_TYPE(USB_TYPE_BULK) | USB_OUT_BUFFER);
    usb_put(USB_ENDPOINT_CONTROL(USB_DATA, DIRECTION_IN),
            enable | ENDPOINT_TYPE(USB_TYPE_BULK) | USB_IN_BUFFER);
    usb_restart(DIRECTION_IN);
    usb_restart(DIRECTION_OUT);
}

#endif
