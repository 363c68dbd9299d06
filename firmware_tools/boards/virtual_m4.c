/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* virtual-m4: the registers of Arm's MPS2 board with image AN386, as QEMU's mps2-an386 has them (Arm DAI 0386). */
#define BOARD_NAME "virtual-m4"
#define UART0 0x40004000u
#define FPGAIO 0x40028000u
#define UART0_RX_IRQ 0u
#define COUNTER_HZ 25000000u
#include "mps2.h"
