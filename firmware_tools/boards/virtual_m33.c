/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* virtual-m33: the secure registers of Arm's MPS2 board with image AN505, as QEMU's mps2-an505 has them (Arm DAI 0505). */
#define BOARD_NAME "virtual-m33"
#define UART0 0x50200000u
#define FPGAIO 0x50302000u
#define UART0_RX_IRQ 32u
#define COUNTER_HZ 20000000u
#include "mps2.h"
