/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The RP2040's second stage: the boot ROM copies the first 256 bytes of flash to RAM (252 of code, and their CRC-32)
 * and jumps there. It makes the flash readable as memory, fast, and starts the image behind it.
 *
 * `python -m tests.test_boot2 --update` assembles this into rp2040_boot2.h, and the test of that name compares the two.
 *
 * Flash of the Pico: W25Q16JV (Winbond), read by 0xEB: address and data on four lines, 4 clocks between them, the
 * command left out while the mode bits are 0xA_. That needs the bit QE (bit 1 of status register 2), which is set once
 * and stays. A flash that does not take it is read by 0x03 on one line, as any flash can be.
 * Registers: pico-sdk, hardware_regs/ssi.h, pads_qspi.h and addressmap.h; RP2040 datasheet, 2.8.1 and 4.10. */

#define PADS_QSPI 0x40020000
#define SCLK 0x04
#define SD0 0x08
#define SD1 0x0C
#define SD2 0x10
#define SD3 0x14
#define DRIVE_8MA_SLEWFAST 0x21
#define SCHMITT 0x02

#define SSI 0x18000000
#define CTRLR0 0x00
#define CTRLR1 0x04
#define SSIENR 0x08
#define BAUDR 0x14
#define SR 0x28
#define DR0 0x60
#define RX_SAMPLE_DLY 0xF0
#define SPI_CTRLR0 0xF4
#define SR_BUSY_TFE 0x05
#define SR_TFE 0x04

#define CTRLR0_BYTES 0x0007            /* the upper half: DFS_32 8 bits, TMOD send and receive */
#define CTRLR0_READ_SERIAL 0x001F0300  /* DFS_32 32 bits, TMOD send address, receive data; SPI_FRF one line */
#define CTRLR0_READ_QUAD 0x005F0300    /* the same, SPI_FRF four lines */
#define SPI_CTRLR0_SERIAL 0x03000218   /* XIP_CMD 0x03, INST_L 8 bits, ADDR_L 24 bits */
#define SPI_CTRLR0_COMMAND 0x00002221  /* WAIT_CYCLES 4, INST_L 8 bits, ADDR_L 32, TRANS_TYPE: command on one line */
#define SPI_CTRLR0_QUAD 0xA0002022     /* mode bits 0xA0, WAIT_CYCLES 4, INST_L none, ADDR_L 32, all on four lines */

#define READ_STATUS_1 0x05
#define BUSY_BIT 1                     /* of status register 1, as a count of shifts that brings it into the carry */
#define READ_STATUS_2 0x35
#define QE_BIT 2                       /* the same, of status register 2 */
#define WRITE_ENABLE 0x06
#define WRITE_STATUS 0x01              /* with the new status registers: 1 is 0, 2 has QE and no more */
#define READ_QUAD 0xEB
#define MODE_CONTINUE 0xA0

#define TURNS_SHIFT 18                 /* 2^18 turns are 0.1 s or more at 12 MHz; the flash needs up to 15 ms */

    .syntax unified
    .cpu cortex-m0plus
    .thumb
    .text
boot2:
    ldr r3, =PADS_QSPI
    movs r0, #DRIVE_8MA_SLEWFAST
    str r0, [r3, #SCLK]
    ldr r0, [r3, #SD0]
    movs r1, #SCHMITT
    bics r0, r1                         /* inputs answer sooner without hysteresis */
    str r0, [r3, #SD0]
    str r0, [r3, #SD1]
    str r0, [r3, #SD2]
    str r0, [r3, #SD3]

    movs r3, #SSI >> 24                 /* stays in r3 */
    lsls r3, #24
    movs r6, #0                         /* stays in r6, and 1 in r7 */
    movs r7, #1
    str r6, [r3, #SSIENR]
    movs r0, #2                         /* half of clk_sys: 62.5 MHz of the 133 that the flash allows */
    str r0, [r3, #BAUDR]
    movs r1, #RX_SAMPLE_DLY
    str r7, [r3, r1]                    /* sampled one clk_sys later: the data of one edge arrive before the next */

    movs r0, #CTRLR0_BYTES
    lsls r0, #16
    str r0, [r3, #CTRLR0]
    str r7, [r3, #SSIENR]
    bl is_quad
    bcs quad
    movs r0, #WRITE_ENABLE
    movs r1, #1
    bl exchange
    lsls r0, r7, #16 + QE_BIT - 1
    adds r0, #WRITE_STATUS
    movs r1, #3
    bl exchange
    lsls r5, r7, #TURNS_SHIFT
1:  movs r0, #READ_STATUS_1
    movs r1, #2
    bl exchange
    lsrs r0, #BUSY_BIT
    bcc 2f
    subs r5, #1
    bne 1b
2:  bl is_quad
    bcs quad

    movs r0, #4                         /* 0x03 is allowed to 50 MHz: a quarter of clk_sys */
    ldr r1, =CTRLR0_READ_SERIAL
    ldr r2, =SPI_CTRLR0_SERIAL
    str r6, [r3, #SSIENR]
    str r0, [r3, #BAUDR]
    b leave

quad:
    ldr r1, =CTRLR0_READ_QUAD
    ldr r2, =SPI_CTRLR0_COMMAND
    bl read_mode
    movs r0, #READ_QUAD                 /* one read, whose mode bits make the flash expect no command from now on */
    str r0, [r3, #DR0]
    movs r0, #MODE_CONTINUE
    str r0, [r3, #DR0]
    bl settle
    ldr r2, =SPI_CTRLR0_QUAD

leave:
    bl read_mode
    ldr r0, =0x10000100                 /* the image's vectors */
    ldr r1, =0xE000ED08                 /* VTOR */
    str r0, [r1]
    ldmia r0, {r0, r1}
    msr msp, r0
    bx r1

/* CTRLR0 becomes r1, SPI_CTRLR0 r2. */
read_mode:
    str r6, [r3, #SSIENR]
    str r1, [r3, #CTRLR0]
    str r6, [r3, #CTRLR1]
    movs r0, #SPI_CTRLR0
    str r2, [r3, r0]
    str r7, [r3, #SSIENR]
    bx lr

/* QE in the carry. */
is_quad:
    mov r8, lr
    movs r0, #READ_STATUS_2
    movs r1, #2
    bl exchange
    lsrs r0, #QE_BIT
    bx r8

/* Sends r1 bytes of r0, the lowest first; r0 is the last one that came back. */
exchange:
    mov r9, lr
    mov r2, r1
1:  uxtb r4, r0
    str r4, [r3, #DR0]
    lsrs r0, #8
    subs r2, #1
    bne 1b
    bl settle
2:  ldr r0, [r3, #DR0]
    subs r1, #1
    bne 2b
    bx r9

/* Waits until all is sent; r0, r2 and r4 are lost. */
settle:
    lsls r4, r7, #TURNS_SHIFT
1:  ldr r2, [r3, #SR]
    movs r0, #SR_BUSY_TFE
    ands r2, r0
    cmp r2, #SR_TFE
    beq 2f
    subs r4, #1
    bne 1b
2:  bx lr
