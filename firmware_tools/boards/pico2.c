/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Raspberry Pi Pico 2: RP2350, 4 MB of flash, a crystal of 12 MHz (Raspberry Pi Pico 2 datasheet). */
#define BOARD_NAME "pico2"
#define PREFILL_PIN 2u
#define DECODE_PIN 3u
#include "rp2350.h"
#include "rp2.h"

static void second_core_start(void) {
    /* left asleep: nothing shares work with it */
}
