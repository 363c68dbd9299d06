/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* virtual-m55: the registers of Arm's MPS3 board with image AN547, as QEMU's mps3-an547 has them (Arm DAI 0547). */
#define BOARD_NAME "virtual-m55"
#define UART0 0x49303000u
#define FPGAIO 0x49302000u
#define UART0_RX_IRQ 33u
#define COUNTER_HZ 20000000u
#define UART_HZ 25000000u
#include "mps2.h"
