/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the USB serial port of rp_usb.h says of itself (USB 2.0, 9.4 to 9.6; CDC 1.2, 5.2.3; PSTN 1.2, 5.3 and 6.3). */
#ifndef EDGE_RP_USB_DESCRIPTORS_H
#define EDGE_RP_USB_DESCRIPTORS_H

#include <stdint.h>

#ifndef USB_VENDOR /* pid.codes' id for tests: a product has its own */
#define USB_VENDOR 0x1209u
#define USB_DEVICE 0x0001u
#endif
#define USB_MANUFACTURER "edge"

enum {
    USB_PACKET = 64, /* of endpoint 0 and of the data: the most that full speed has */
    USB_NOTIFICATION = 1, /* endpoints */
    USB_DATA = 2,
    USB_CONTROL_INTERFACE = 0,
    USB_DATA_INTERFACE = 1,
    USB_TYPE_BULK = 2,
    USB_TYPE_INTERRUPT = 3,
};

/* the first byte of a request: direction, kind and whom it concerns */
enum {
    USB_IN = 0x80,
    USB_KIND = 0x60,
    USB_STANDARD = 0x00,
    USB_CLASS = 0x20,
    USB_RECIPIENT = 0x1F,
    USB_OF_DEVICE = 0,
    USB_OF_INTERFACE = 1,
    USB_OF_ENDPOINT = 2,
};

/* requests, with that first byte where it is always the same: request << 8 | first byte */
enum {
    USB_GET_STATUS = 0x00,
    USB_CLEAR_FEATURE = 0x0102,
    USB_SET_FEATURE = 0x0302,
    USB_SET_ADDRESS = 0x0500,
    USB_GET_DESCRIPTOR = 0x0680,
    USB_GET_CONFIGURATION = 0x0880,
    USB_SET_CONFIGURATION = 0x0900,
    USB_GET_INTERFACE = 0x0A81,
    USB_SET_INTERFACE = 0x0B01,
    USB_ENDPOINT_HALT = 0, /* a feature */
    USB_SET_LINE_CODING = 0x20,
    USB_GET_LINE_CODING = 0x21,
    USB_SET_CONTROL_LINE_STATE = 0x22,
    USB_SEND_BREAK = 0x23,
    USB_CODING_BYTES = 7,
};

enum {
    USB_DEVICE_DESCRIPTOR = 1,
    USB_CONFIGURATION_DESCRIPTOR = 2,
    USB_STRING = 3,
    USB_TEXT_MANUFACTURER = 1,
    USB_TEXT_PRODUCT = 2,
    USB_TEXT_SERIAL = 3,
    USB_DEVICE_SERIAL = 16, /* where a device descriptor has the number of that text */
};

#define USB_LOW(word) ((word) & 0xFFu)
#define USB_HIGH(word) ((word) >> 8)

static const uint8_t usb_device[] = {
    18, USB_DEVICE_DESCRIPTOR,
    0x00, 0x02,       /* USB 2.0 */
    0xEF, 0x02, 0x01, /* interfaces that belong together are told by an interface association */
    USB_PACKET,
    USB_LOW(USB_VENDOR), USB_HIGH(USB_VENDOR), USB_LOW(USB_DEVICE), USB_HIGH(USB_DEVICE),
    0x00, 0x01,       /* our version 1.0 */
    USB_TEXT_MANUFACTURER, USB_TEXT_PRODUCT, USB_TEXT_SERIAL,
    1,                /* configuration */
};

enum { USB_CONFIGURATION_BYTES = 75 };

static const uint8_t usb_configuration[] = {
    9, USB_CONFIGURATION_DESCRIPTOR, USB_CONFIGURATION_BYTES, 0,
    2, 1, 0,       /* interfaces, the configuration's number, no text */
    0x80, 50,      /* fed by the bus, which gives every device 100 mA */
    8, 11, USB_CONTROL_INTERFACE, 2, /* interface association: two from the first on */
    0x02, 0x02, 0x00, 0,             /* communication, abstract control model, no AT commands */
    9, 4, USB_CONTROL_INTERFACE, 0, 1, 0x02, 0x02, 0x00, 0,
    5, 0x24, 0x00, 0x20, 0x01,                                 /* header: CDC 1.20 */
    5, 0x24, 0x01, 0x00, USB_DATA_INTERFACE,                   /* call management: none */
    4, 0x24, 0x02, 0x06,                                       /* line coding and state, BREAK */
    5, 0x24, 0x06, USB_CONTROL_INTERFACE, USB_DATA_INTERFACE,  /* union */
    7, 5, USB_IN | USB_NOTIFICATION, USB_TYPE_INTERRUPT, 16, 0, 32, /* never sends: asked every 32 ms */
    9, 4, USB_DATA_INTERFACE, 0, 2, 0x0A, 0x00, 0x00, 0,
    7, 5, USB_DATA, USB_TYPE_BULK, USB_PACKET, 0, 0,
    7, 5, USB_IN | USB_DATA, USB_TYPE_BULK, USB_PACKET, 0, 0,
};

_Static_assert(sizeof usb_configuration == USB_CONFIGURATION_BYTES, "the descriptor tells its own length");

static const uint8_t usb_languages[] = {4, USB_STRING, 0x09, 0x04}; /* English (United States) */

static const uint8_t usb_coding[USB_CODING_BYTES] = {0x00, 0xC2, 0x01, 0x00, 0, 0, 8}; /* 115200 baud, 8N1 */

#endif
