/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What a host asks of the USB serial port of rp_usb.h through endpoint 0 (USB 2.0, 8.5.3 and 9; PSTN 1.2, 6.3). */
#ifndef EDGE_RP_USB_CONTROL_H
#define EDGE_RP_USB_CONTROL_H

#include "rp_usb_data.h"

enum { USB_TOUCH_BAUD = 1200 };

static void usb_status_in(void) {
    usb.stage = STAGE_STATUS_IN;
    usb_arm(USB_BUFFER_CONTROL(0, DIRECTION_IN), BUFFER_FULL | BUFFER_DATA1);
}

static void usb_stall(void) {
    usb.stage = STAGE_IDLE;
    usb_put(USB_EP_STALL_ARM, USB_EP_STALL_ARM_EP0_IN | USB_EP_STALL_ARM_EP0_OUT);
    usb_put(USB_BUFFER_CONTROL(0, DIRECTION_IN), BUFFER_STALL);
    usb_put(USB_BUFFER_CONTROL(0, DIRECTION_OUT), BUFFER_STALL);
}

static void usb_next_packet(void) {
    uint32_t bytes = usb.left_bytes < USB_PACKET ? usb.left_bytes : USB_PACKET;
    for (uint32_t i = 0; i < bytes; i++) usb_put_byte(USB_EP0_BUFFER + i, usb.left[i]);
    usb_arm(USB_BUFFER_CONTROL(0, DIRECTION_IN), BUFFER_FULL | bytes | (usb.data1 ? BUFFER_DATA1 : 0));
    usb.left += bytes;
    usb.left_bytes = (uint16_t)(usb.left_bytes - bytes);
    usb.data1 ^= 1;
    if (bytes < USB_PACKET) usb.short_end = 0;
}

static void usb_answer(const uint8_t *bytes, uint32_t count, uint32_t asked) {
    usb.left = bytes;
    usb.left_bytes = (uint16_t)(count < asked ? count : asked);
    usb.short_end = count < asked;
    usb.data1 = 1;
    usb.stage = STAGE_DATA_IN;
    usb_next_packet();
}

/* A text as a string descriptor; what has no room in one packet is left out. */
static uint32_t usb_build_text(const char *text) {
    uint32_t at = 2;
    for (; *text && at + 1 < USB_PACKET; at += 2) {
        usb.built[at] = (uint8_t)*text++;
        usb.built[at + 1] = 0;
    }
    usb.built[0] = (uint8_t)at;
    usb.built[1] = USB_STRING;
    return at;
}

static void usb_descriptor(uint32_t kind, uint32_t index, uint32_t asked) {
    const char *serial = chip_serial_number();
    if (kind == USB_DEVICE_DESCRIPTOR && index == 0) {
        for (uint32_t i = 0; i < sizeof usb_device; i++) usb.built[i] = usb_device[i];
        usb.built[USB_DEVICE_SERIAL] = *serial ? USB_TEXT_SERIAL : 0;
        usb_answer(usb.built, sizeof usb_device, asked);
    } else if (kind == USB_CONFIGURATION_DESCRIPTOR && index == 0) {
        usb_answer(usb_configuration, sizeof usb_configuration, asked);
    } else if (kind == USB_STRING && index == 0) {
        usb_answer(usb_languages, sizeof usb_languages, asked);
    } else if (kind == USB_STRING && index == USB_TEXT_MANUFACTURER) {
        usb_answer(usb.built, usb_build_text(USB_MANUFACTURER), asked);
    } else if (kind == USB_STRING && index == USB_TEXT_PRODUCT) {
        usb_answer(usb.built, usb_build_text(USB_PRODUCT), asked);
    } else if (kind == USB_STRING && index == USB_TEXT_SERIAL && *serial) {
        usb_answer(usb.built, usb_build_text(serial), asked);
    } else {
        usb_stall(); /* among them what only devices of high speed have */
    }
}

static uint32_t usb_rate(void) {
    return usb.coding[0] | (uint32_t)usb.coding[1] << 8 | (uint32_t)usb.coding[2] << 16 | (uint32_t)usb.coding[3] << 24;
}

/* DTR goes up when a program opens the port and down when it closes it. What it has not fetched is not for the next one.
 * Down at 1200 baud is how a host asks for the boot loader (a convention of Arduino's). */
static void usb_control_line(uint32_t state) {
    uint8_t ready = state & 1u;
    if (usb.terminal_ready && !ready) {
        usb.in_bytes = usb.in_full_before = 0;
        usb.touched = usb_rate() == USB_TOUCH_BAUD;
    }
    usb.terminal_ready = ready;
    usb.deaf = 0;
    usb_status_in();
}

/* Bit 0 of an endpoint's state is whether it is halted; a device and an interface have none to tell. */
static void usb_state(uint32_t type, uint32_t index, uint32_t asked) {
    unsigned out = !(index & USB_IN);
    int is_data = type == USB_OF_ENDPOINT && (index & ~(uint32_t)USB_IN) == USB_DATA;
    usb.built[0] = is_data ? usb.halted[out] : 0;
    usb.built[1] = 0;
    usb_answer(usb.built, 2, asked);
}

static void usb_feature(uint32_t index, int set) {
    unsigned out = !(index & USB_IN);
    if ((index & ~(uint32_t)USB_IN) == USB_DATA) {
        if (set) {
            usb_halt(out);
        } else {
            usb_restart(out);
        }
    }
    usb_status_in();
}

/* What is asked of a device that has an address and, from SET_CONFIGURATION on, interfaces and endpoints 1 and 2. */
static int usb_knows(uint32_t type, uint32_t index) {
    uint32_t recipient = type & USB_RECIPIENT;
    if (recipient == USB_OF_INTERFACE) return usb.configured && index < 2;
    if (recipient != USB_OF_ENDPOINT) return recipient == USB_OF_DEVICE;
    return (index & 0x7Fu) == 0 || (usb.configured && (index == USB_DATA || index == (USB_IN | USB_DATA) ||
                                                       index == (USB_IN | USB_NOTIFICATION)));
}

static void usb_standard(uint32_t type, uint32_t request, uint32_t value, uint32_t index, uint32_t asked) {
    uint32_t what = request << 8 | type; /* the request, its direction and whom it concerns */
    if (what == USB_GET_DESCRIPTOR) {
        usb_descriptor(value >> 8, value & 0xFFu, asked);
    } else if (what == USB_SET_ADDRESS && value < 128) {
        usb.address = (uint8_t)value;
        usb_status_in();
    } else if (what == USB_SET_CONFIGURATION && value < 2) {
        usb_configure((uint8_t)value);
        usb_status_in();
    } else if (what == USB_GET_CONFIGURATION) {
        usb_answer(&usb.configured, 1, asked);
    } else if (what == USB_SET_INTERFACE && value == 0) {
        if (index == USB_DATA_INTERFACE) {
            usb_restart(DIRECTION_IN);
            usb_restart(DIRECTION_OUT);
        }
        usb_status_in();
    } else if (what == USB_GET_INTERFACE) {
        usb.built[0] = 0;
        usb_answer(usb.built, 1, asked);
    } else if (request == USB_GET_STATUS && type & USB_IN) {
        usb_state(type & USB_RECIPIENT, index, asked);
    } else if ((what == USB_SET_FEATURE || what == USB_CLEAR_FEATURE) && value == USB_ENDPOINT_HALT) {
        usb_feature(index, what == USB_SET_FEATURE);
    } else {
        usb_stall();
    }
}

/* The requests of CDC's abstract control model; they concern interface 0 (some hosts say: the device). */
static void usb_class(uint32_t type, uint32_t request, uint32_t value, uint32_t asked) {
    if (request == USB_SET_LINE_CODING && !(type & USB_IN) && asked == USB_CODING_BYTES) {
        usb.stage = STAGE_DATA_OUT;
        usb_arm(USB_BUFFER_CONTROL(0, DIRECTION_OUT), USB_PACKET | BUFFER_DATA1);
    } else if (request == USB_GET_LINE_CODING && type & USB_IN) {
        usb_answer(usb.coding, sizeof usb.coding, asked);
    } else if (request == USB_SET_CONTROL_LINE_STATE && !(type & USB_IN) && asked == 0) {
        usb_control_line(value);
    } else if (request == USB_SEND_BREAK && !(type & USB_IN) && asked == 0) {
        usb.broke |= value != 0; /* 0: the end of one */
        usb_status_in();
    } else {
        usb_stall();
    }
}

static void usb_setup(const uint8_t *setup) {
    uint32_t type = setup[0], request = setup[1], value = setup[2] | (uint32_t)setup[3] << 8;
    uint32_t index = setup[4] | (uint32_t)setup[5] << 8, asked = setup[6] | (uint32_t)setup[7] << 8;
    if (usb.stage != STAGE_IDLE) { /* the host has given up what was asked before */
        usb_revoke(0, DIRECTION_IN);
        usb_revoke(0, DIRECTION_OUT);
    }
    usb.stage = STAGE_IDLE;
    usb.address = usb.touched = 0;
    if ((type & USB_IN) ? asked == 0 : asked != 0 && request != USB_SET_LINE_CODING) {
        usb_stall(); /* no request of ours: nothing to read, or something to write */
    } else if (!usb_knows(type, index)) {
        usb_stall();
    } else if ((type & USB_KIND) == USB_STANDARD) {
        usb_standard(type, request, value, index, asked);
    } else if ((type & USB_KIND) == USB_CLASS && (type & USB_RECIPIENT) != USB_OF_ENDPOINT && index == 0) {
        usb_class(type, request, value, asked);
    } else {
        usb_stall();
    }
}

/* A packet of endpoint 0 has gone or come. Where the next request is there already, only what has ended counts. */
static void usb_control(uint32_t done) {
    if (usb.stage != STAGE_STATUS_IN && usb_get(USB_SIE_STATUS) & USB_SIE_STATUS_SETUP_REC) return;
    if (usb.stage == STAGE_DATA_IN && done & USB_BUFF_STATUS_EP0_IN) {
        if (usb.left_bytes || usb.short_end) {
            usb_next_packet();
        } else {
            usb.stage = STAGE_STATUS_OUT;
            usb_arm(USB_BUFFER_CONTROL(0, DIRECTION_OUT), USB_PACKET | BUFFER_DATA1);
        }
    } else if (usb.stage == STAGE_STATUS_OUT && done & USB_BUFF_STATUS_EP0_OUT) {
        usb.stage = STAGE_IDLE;
    } else if (usb.stage == STAGE_DATA_OUT && done & USB_BUFF_STATUS_EP0_OUT) {
        uint32_t bytes = usb_get(USB_BUFFER_CONTROL(0, DIRECTION_OUT)) & BUFFER_LENGTH;
        if (bytes != USB_CODING_BYTES) {
            usb_stall();
            return;
        }
        for (uint32_t i = 0; i < bytes; i++) usb.coding[i] = usb_get_byte(USB_EP0_BUFFER + i);
        usb_status_in();
    } else if (usb.stage == STAGE_STATUS_IN && done & USB_BUFF_STATUS_EP0_IN) {
        usb.stage = STAGE_IDLE;
        if (usb.address) usb_put(USB_ADDR_ENDP, usb.address); /* until here it had to answer at the old one */
        usb.address = 0;
        if (usb.touched) rom_bootsel();
        usb.touched = 0;
    }
}

static void usb_reset(void) {
    usb_put(USB_ADDR_ENDP, 0);
    usb.stage = STAGE_IDLE;
    usb.address = usb.touched = usb.broke = 0;
    usb_revoke(0, DIRECTION_IN);
    usb_revoke(0, DIRECTION_OUT);
    usb_configure(0);
    for (unsigned i = 0; i < sizeof usb.coding; i++) usb.coding[i] = usb_coding[i];
}

#endif
