/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Raspberry Pi Pico: RP2040, 2 MB of flash, a crystal of 12 MHz (Raspberry Pi Pico datasheet). */
#define BOARD_NAME "pico"
#define PREFILL_PIN 2u
#define DECODE_PIN 3u
#include "rp2040.h"
#include "rp2.h"
#include "rp2040_pair.h"
