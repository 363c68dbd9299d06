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

#endif
