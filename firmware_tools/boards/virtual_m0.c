/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* virtual-m0: the registers of Arm's MPS2 board with image AN385, around a smaller core (Arm DAI 0385). */
#define BOARD_NAME "virtual-m0"
#define UART0 0x40004000u
#define FPGAIO 0x40028000u
#define UART0_RX_IRQ 0u
#define COUNTER_HZ 25000000u
#include "mps2.h"
