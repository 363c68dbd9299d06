/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* The RP2040's second core: it sleeps until the first one shares work with it (runtime/pair.h), and answers in the
 * FIFOs between them. After reset it waits in the boot ROM for six words, which it sends back one by one: 0, 0, 1, its
 * vectors, its stack pointer, where to begin (RP2040 datasheet, 2.3.1 and 2.8.2; pico-sdk, hardware_regs and
 * pico_multicore).
 *
 * A board's .c includes this after rp2.h. Where the core does not answer, all goes on without it. */
#ifndef EDGE_RP2040_PAIR_H
#define EDGE_RP2040_PAIR_H

#include "pair.h"

#define PSM_BASE 0x40010000u
#define PSM_FRCE_OFF REGISTER(PSM_BASE + 0x04u)
#define PSM_FRCE_OFF_SET REGISTER(PSM_BASE + 0x04u + ATOMIC_SET)
#define PSM_FRCE_OFF_CLEAR REGISTER(PSM_BASE + 0x04u + ATOMIC_CLEAR)
#define PSM_FRCE_OFF_PROC1 (1u << 16)

#define SIO_FIFO_ST REGISTER(SIO_BASE + 0x50u)
#define SIO_FIFO_ST_VLD (1u << 0) /* a word is there */
#define SIO_FIFO_WR REGISTER(SIO_BASE + 0x54u)
#define SIO_FIFO_RD REGISTER(SIO_BASE + 0x58u)

#define SECOND_STACK_TOP 0x20042000u /* of SRAM5, 4 KB that the linker script leaves free */
#define LAUNCH_TRIES 20u
#define TURNS_LAUNCH 20000u /* of 5 cycles or more; the boot ROM's answers take some dozens */
#define TURNS_WORK 5000000u /* 0.2 s at 125 MHz: by how much the other half may take longer */

static int second_core_runs;

static struct {
    edge_pair_work *work;
    void *argument;
    uint32_t number;
} shared;

static void fifo_put(uint32_t word) {
    SIO_FIFO_WR = word;
    __asm volatile("sev");
}

/* The next word from the other core in *word; 0 where none comes in so many turns. */
static int fifo_get(uint32_t *word, uint32_t turns) {
    for (; turns; turns--) {
        if (SIO_FIFO_ST & SIO_FIFO_ST_VLD) {
            *word = SIO_FIFO_RD;
            return 1;
        }
    }
    return 0;
}

static void fifo_drain(void) {
    for (unsigned words = 0; words < 8 && SIO_FIFO_ST & SIO_FIFO_ST_VLD; words++) (void)SIO_FIFO_RD;
}

/* Where the second core begins: interrupts masked, in its own stack, for ever. */
static void second_core(void) {
    __asm volatile("cpsid i");
    for (;;) {
        while (!(SIO_FIFO_ST & SIO_FIFO_ST_VLD)) __asm volatile("wfe");
        uint32_t number = SIO_FIFO_RD;
        __asm volatile("dmb" ::: "memory");
        shared.work(shared.argument, 1);
        __asm volatile("dmb" ::: "memory");
        fifo_put(number);
    }
}

/* A fault there must not report itself through ports that the first core looks after: that one misses the answer. */
static void second_core_fault(void) {
    for (;;) __asm volatile("wfi");
}

__attribute__((aligned(256))) static void (*const second_vectors[16])(void) = {
    0, 0, second_core_fault, second_core_fault, 0, 0, 0, 0, 0, 0, 0, second_core_fault, 0, 0, second_core_fault,
    second_core_fault};

static int second_core_launch(void) {
    uint32_t word = 1;
    PSM_FRCE_OFF_SET = PSM_FRCE_OFF_PROC1; /* from reset on, whatever ran here before */
    for (uint32_t turns = TURNS_LAUNCH; turns && !(PSM_FRCE_OFF & PSM_FRCE_OFF_PROC1); turns--) {
    }
    fifo_drain();
    PSM_FRCE_OFF_CLEAR = PSM_FRCE_OFF_PROC1;
    if (!fifo_get(&word, TURNS_LAUNCH) || word != 0) return 0; /* it says so when it is ready */
    const uint32_t words[] = {0, 0, 1, (uint32_t)second_vectors, SECOND_STACK_TOP, (uint32_t)second_core};
    size_t at = 0;
    for (unsigned tries = 0; tries < LAUNCH_TRIES && at < sizeof words / sizeof *words; tries++) {
        if (words[at] == 0) fifo_drain();
        fifo_put(words[at]);
        if (!fifo_get(&word, TURNS_LAUNCH)) return 0;
        at = word == words[at] ? at + 1 : 0;
    }
    return at == sizeof words / sizeof *words;
}

static void second_core_start(void) {
    second_core_runs = second_core_launch();
    if (!second_core_runs) trouble_note("the second core");
}

int edge_pair_begin(edge_pair_work *work, void *argument) {
    if (!second_core_runs) return 0;
    shared.work = work, shared.argument = argument, shared.number++;
    __asm volatile("dmb" ::: "memory");
    fifo_put(shared.number);
    return 1;
}

int edge_pair_end(void) {
    uint32_t answer;
    if (fifo_get(&answer, TURNS_WORK) && answer == shared.number) {
        __asm volatile("dmb" ::: "memory");
        return 1;
    }
    PSM_FRCE_OFF_SET = PSM_FRCE_OFF_PROC1; /* so that it cannot wake up later */
    second_core_runs = 0;
    trouble_note("the second core, which stopped");
    return 0;
}

#endif
