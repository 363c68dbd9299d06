/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The registers of Nordic's nRF52840 that its port uses (nRF52840 Product Specification; names and addresses as in
 * Nordic's nrfx 4.2.1, mdk/nrf52840.h and nrf52840_bitfields.h, against which the tests check them).
 *
 * A task starts when 1 is written to it; an event is 1 once it has happened, until 0 is written. */
#ifndef EDGE_NRF52840_H
#define EDGE_NRF52840_H

#include "cortex.h"

/* what the chip says of itself, and the user's settings, both in flash */
#define FICR_INFO_PART REGISTER(0x10000100u)
#define FICR_INFO_PART_PART_N52840 0x52840u
#define FICR_PRODUCT REGISTER(0x10000130u) /* this and the next: in no manual; nrfx tells revisions by them */
#define FICR_PRODUCT_NRF52840 8u
#define FICR_REVISION REGISTER(0x10000134u)
#define FICR_REVISION_5 5u /* the first with a debug port that firmware must open, too */
#define UICR_APPROTECT REGISTER(0x10001208u)
#define UICR_APPROTECT_PALL (0xFFu << 0)
#define UICR_APPROTECT_PALL_HWDISABLED (0x5Au << 0) /* open; all ones, as erased, is locked in chips of revision 5 */

#define CLOCK_TASKS_HFCLKSTART REGISTER(0x40000000u)
#define CLOCK_HFCLKSTAT REGISTER(0x4000040Cu)
#define CLOCK_HFCLKSTAT_SRC_XTAL (1u << 0)
#define CLOCK_HFCLKSTAT_STATE (1u << 16) /* running */
#define APPROTECT_DISABLE REGISTER(0x40000558u)
#define POWER_DCDCEN REGISTER(0x40000578u)
#define POWER_DCDCEN_DCDCEN (1u << 0)
#define NVMC_READY REGISTER(0x4001E400u)
#define NVMC_READY_READY (1u << 0)
#define NVMC_CONFIG REGISTER(0x4001E504u)
#define NVMC_CONFIG_WEN_REN (0u << 0)
#define NVMC_CONFIG_WEN_WEN (1u << 0)
#define NVMC_ICACHECNF REGISTER(0x4001E540u)
#define NVMC_ICACHECNF_CACHEEN (1u << 0)

#define UARTE0_TASKS_STARTRX REGISTER(0x40002000u)
#define UARTE0_TASKS_STOPRX REGISTER(0x40002004u)
#define UARTE0_TASKS_STARTTX REGISTER(0x40002008u)
#define UARTE0_EVENTS_RXDRDY REGISTER(0x40002108u)
#define UARTE0_EVENTS_ENDTX REGISTER(0x40002120u)
#define UARTE0_EVENTS_ERROR REGISTER(0x40002124u)
#define UARTE0_EVENTS_RXTO REGISTER(0x40002144u)
#define UARTE0_SHORTS REGISTER(0x40002200u)
#define UARTE0_SHORTS_ENDRX_STARTRX (1u << 5)
#define UARTE0_INTENSET REGISTER(0x40002304u)
#define UARTE0_INTENSET_RXDRDY (1u << 2)
#define UARTE0_INTENSET_ERROR (1u << 9)
#define UARTE0_ERRORSRC REGISTER(0x40002480u) /* writing ones clears them */
#define UARTE0_ERRORSRC_BREAK (1u << 3)
#define UARTE0_ENABLE REGISTER(0x40002500u)
#define UARTE0_ENABLE_ENABLE_ENABLED (8u << 0)
#define UARTE0_PSEL_TXD REGISTER(0x4000250Cu)
#define UARTE0_PSEL_RXD REGISTER(0x40002514u)
#define UARTE0_BAUDRATE REGISTER(0x40002524u)
#define UARTE0_BAUDRATE_BAUDRATE_BAUD115200 0x01D60000u
#define UARTE0_RXD_PTR REGISTER(0x40002534u)
#define UARTE0_RXD_MAXCNT REGISTER(0x40002538u)
#define UARTE0_RXD_AMOUNT REGISTER(0x4000253Cu)
#define UARTE0_TXD_PTR REGISTER(0x40002544u)
#define UARTE0_TXD_MAXCNT REGISTER(0x40002548u)
#define UARTE0_IRQ 2u

/* TIMER0 to TIMER2 have four capture and compare registers, TIMER3 and TIMER4 six */
#define TIMER_TASKS_START(timer) REGISTER(0x40008000u + (timer) * 0x1000u)
#define TIMER_TASKS_COUNT(timer) REGISTER(0x40008008u + (timer) * 0x1000u)
#define TIMER_TASKS_CAPTURE(timer, n) REGISTER(0x40008040u + (timer) * 0x1000u + (n) * 4u)
#define TIMER_EVENTS_COMPARE(timer, n) REGISTER(0x40008140u + (timer) * 0x1000u + (n) * 4u)
#define TIMER_INTENSET(timer) REGISTER(0x40008304u + (timer) * 0x1000u)
#define TIMER_INTENSET_COMPARE1 (1u << 17)
#define TIMER_MODE(timer) REGISTER(0x40008504u + (timer) * 0x1000u)
#define TIMER_MODE_MODE_TIMER (0u << 0)
#define TIMER_MODE_MODE_LOWPOWERCOUNTER (2u << 0)
#define TIMER_BITMODE(timer) REGISTER(0x40008508u + (timer) * 0x1000u)
#define TIMER_BITMODE_BITMODE_32BIT (3u << 0)
#define TIMER_PRESCALER(timer) REGISTER(0x40008510u + (timer) * 0x1000u)
#define TIMER_CC(timer, n) REGISTER(0x40008540u + (timer) * 0x1000u + (n) * 4u)
#define TIMER0_IRQ 8u

/* PPI: an event of one peripheral starts a task of another, without the core */
#define PPI_CHENSET REGISTER(0x4001F504u)
#define PPI_CHENSET_CH0 (1u << 0)
#define PPI_CH_EEP(n) REGISTER(0x4001F510u + (n) * 8u)
#define PPI_CH_TEP(n) REGISTER(0x4001F514u + (n) * 8u)

#define GPIO_OUTSET(port) REGISTER(0x50000508u + (port) * 0x300u)
#define GPIO_OUTCLR(port) REGISTER(0x5000050Cu + (port) * 0x300u)
#define GPIO_DIRSET(port) REGISTER(0x50000518u + (port) * 0x300u)
#define GPIO_PIN_CNF(port, n) REGISTER(0x50000700u + (port) * 0x300u + (n) * 4u)
#define GPIO_PIN_CNF_INPUT_CONNECT (0u << 1)
#define GPIO_PIN_CNF_PULL_PULLUP (3u << 2)

#endif
