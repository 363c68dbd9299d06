/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Frames: packets with a sequence number and a CRC, for programs; firmware_tools/frames.py describes them. */
#ifndef EDGE_FRAMES_H
#define EDGE_FRAMES_H

#include "session.h"

#ifndef FRAMES_REQUEST_BYTES
#define FRAMES_REQUEST_BYTES 512 /* payload of a request; told to the host as max_payload */
#endif
#define FRAMES_REPLY_BYTES 1024 /* payload of a reply */

edge_mode frames_enter(void);
int frames_expired(void);        /* no valid packet for 2 s: the host is gone */
edge_mode frames_byte(int byte); /* takes a received byte or PORT_BREAK; returns the mode of the next */

/* --- for decoder_frames.c or plain/plain_frames.c, which carry out what a model is asked --- */

/* Carries a request out; 0 where the kind or its length is not one that the model knows. Requests: frames.py. */
int frames_request(uint8_t kind, const uint8_t *payload, size_t count);

uint32_t frames_u32(const uint8_t *at); /* little-endian, at any address */
void frames_put(uint32_t byte);         /* into the reply; what does not fit is left out */
void frames_put_u32(uint32_t value);
void frames_put_u64(uint64_t value);
size_t frames_room(void);               /* bytes that still fit the reply */
void frames_error(const char *text);    /* makes the reply an ERROR with this text */
void frames_error_number(const char *text, uint32_t number);

#endif
