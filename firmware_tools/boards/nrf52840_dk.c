/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* nrf52840-dk: Nordic's development kit PCA10056. The core always runs at 64 MHz; what has to start is the crystal that
 * makes it exact. UARTE0 leads to the probe's virtual COM port.
 *
 * Reception needs no attention while a model computes: bytes go to a ring in RAM by EasyDMA, which starts over at its
 * end, and PPI has TIMER1 count them. 512 bytes may wait. */
#include "nrf52840.h"
#include "port.h"
#include "ticks.h"
#include "wait.h"

enum {
    CLOCK_HZ = 64000000,
    TIME_HZ = 31250, /* TIMER0: 16 MHz / 2^9 */
    TICKS_PER_TIME = CLOCK_HZ / TIME_HZ,
    TIME = 0,  /* TIMER0 is the coarse clock */
    COUNT = 1, /* TIMER1 counts received bytes */
    PIN_TX = 6,
    PIN_RX = 8,
    PIN_GATE = 32 + 1,       /* P1.01 prefill, P1.02 decode */
    PIN_ACTIVE_LOW = 1 << 7, /* added to the number of a pin that is lit by a low level: LED is P0.13 */
    RING_BYTES = 512,        /* a power of two */
    OUT_BYTES = 256,
    CRYSTAL_TURNS = CLOCK_HZ / 5 / 100, /* 10 ms or more: the crystal takes less than 1 */
    STOP_TURNS = CLOCK_HZ / 5 / 500,    /* 2 ms or more: stopping takes the time of five bytes at most */
    SEND_TURNS = CLOCK_HZ / 5 / 20,     /* 50 ms or more: 256 bytes take 22 */
    QUIET_TIME = TIME_HZ / 1000,        /* 1 ms: eleven bytes */
};

/* EasyDMA reaches RAM alone */
static uint8_t ring[RING_BYTES], out[OUT_BYTES];
static uint8_t kept[RING_BYTES]; /* what was not read when the receiver was started again */
static uint32_t kept_at, kept_end;
static uint32_t start; /* TIMER1 when the ring was at its first byte */
static uint32_t taken; /* bytes read since then */
static struct {
    int pending;
    uint32_t count, time; /* the line has been quiet since then */
} error;
static int send_failed;

const char *port_name(void) {
    static const char name[] = "EMULATED nrf52840-dk"; /* no emulator known has the chip's own facts */
    return FICR_INFO_PART == FICR_INFO_PART_PART_N52840 ? name + sizeof "EMULATED" : name;
}

/* --- time */

static uint32_t timer_value(unsigned timer) {
    TIMER_TASKS_CAPTURE(timer, 0) = 1;
    return TIMER_CC(timer, 0);
}

static uint64_t coarse_time(void) {
    static uint64_t time;
    return ticks_extend(&time, timer_value(TIME), 32);
}

static uint32_t slept; /* ticks in which the core's counter stood still */

uint64_t port_ticks(void) {
    return ticks_nearest(coarse_time() * TICKS_PER_TIME, DWT_CYCCNT + slept, 32);
}

uint32_t port_millis(void) {
    return (uint32_t)(coarse_time() * 1000u / TIME_HZ);
}

uint32_t port_ticks_hz(void) {
    return CLOCK_HZ;
}

static void timer_start(unsigned timer, uint32_t mode, uint32_t prescaler) {
    TIMER_MODE(timer) = mode;
    TIMER_BITMODE(timer) = TIMER_BITMODE_BITMODE_32BIT;
    TIMER_PRESCALER(timer) = prescaler;
    TIMER_TASKS_START(timer) = 1;
}

/* --- pins */

static void pin_set(unsigned pin, int high) {
    uint32_t bit = 1u << pin % 32u;
    if (high)
        GPIO_OUTSET(pin / 32u) = bit;
    else
        GPIO_OUTCLR(pin / 32u) = bit;
}

static void pin_output(unsigned pin, int high) {
    pin_set(pin, high);
    GPIO_DIRSET(pin / 32u) = 1u << pin % 32u;
}

void port_gate(unsigned gate, int high) {
    pin_set(PIN_GATE + gate, high);
}

void port_pin(unsigned pin, int high) {
    int inverted = (pin & PIN_ACTIVE_LOW) != 0;
    pin_output(pin & (PIN_ACTIVE_LOW - 1u), (high != 0) != inverted);
}

/* --- start */

/* From revision 5 on the debug port is locked unless UICR and firmware both open it, and what erases a chip to open it
 * once erases UICR, too: the next power-on would lock it again. So where nobody has chosen otherwise UICR is written,
 * once; else firmware does what UICR says. In older chips this very value would lock it. */
static void open_debug_port(void) {
    if (FICR_PRODUCT != FICR_PRODUCT_NRF52840 || FICR_REVISION < FICR_REVISION_5) return;
    if (UICR_APPROTECT == 0xFFFFFFFFu) {
        NVMC_CONFIG = NVMC_CONFIG_WEN_WEN;
        UICR_APPROTECT = ~UICR_APPROTECT_PALL | UICR_APPROTECT_PALL_HWDISABLED;
        wait_until(&NVMC_READY, NVMC_READY_READY, NVMC_READY_READY, CRYSTAL_TURNS, "the write to UICR");
        NVMC_CONFIG = NVMC_CONFIG_WEN_REN;
    }
    APPROTECT_DISABLE = UICR_APPROTECT;
}

static void start_receiver(void) {
    UARTE0_RXD_PTR = (uint32_t)(uintptr_t)ring;
    UARTE0_RXD_MAXCNT = RING_BYTES;
    UARTE0_SHORTS = UARTE0_SHORTS_ENDRX_STARTRX; /* at the ring's end it starts over */
    UARTE0_TASKS_STARTRX = 1;
}

static void start_uart(void) {
    pin_output(PIN_TX, 1);
    GPIO_PIN_CNF(0, PIN_RX) = GPIO_PIN_CNF_INPUT_CONNECT | GPIO_PIN_CNF_PULL_PULLUP;
    UARTE0_PSEL_TXD = PIN_TX;
    UARTE0_PSEL_RXD = PIN_RX;
    UARTE0_BAUDRATE = UARTE0_BAUDRATE_BAUDRATE_BAUD115200;
    UARTE0_ENABLE = UARTE0_ENABLE_ENABLE_ENABLED;
    PPI_CH_EEP(0) = (uint32_t)(uintptr_t)&UARTE0_EVENTS_RXDRDY;
    PPI_CH_TEP(0) = (uint32_t)(uintptr_t)&TIMER_TASKS_COUNT(COUNT);
    PPI_CHENSET = PPI_CHENSET_CH0;
    UARTE0_INTENSET = UARTE0_INTENSET_RXDRDY | UARTE0_INTENSET_ERROR;
    nvic_enable(UARTE0_IRQ);
    start_receiver();
}

void port_init(void) {
    open_debug_port();
    NVMC_ICACHECNF = NVMC_ICACHECNF_CACHEEN;
    POWER_DCDCEN = POWER_DCDCEN_DCDCEN; /* the kit has the inductor that this needs */
    CLOCK_TASKS_HFCLKSTART = 1;
    const uint32_t crystal = CLOCK_HFCLKSTAT_SRC_XTAL | CLOCK_HFCLKSTAT_STATE;
    wait_until(&CLOCK_HFCLKSTAT, crystal, crystal, CRYSTAL_TURNS, "the 32 MHz crystal");
    if (!cycles_start()) trouble_note("the cycle counter");
    timer_start(TIME, TIMER_MODE_MODE_TIMER, 9);
    timer_start(COUNT, TIMER_MODE_MODE_LOWPOWERCOUNTER, 0);
    TIMER_INTENSET(TIME) = TIMER_INTENSET_COMPARE1;
    nvic_enable(TIMER0_IRQ);
    pin_output(PIN_GATE + PORT_GATE_PREFILL, 0);
    pin_output(PIN_GATE + PORT_GATE_DECODE, 0);
    start_uart();
}

/* --- the line */

/* How many bytes were received, all of them in RAM: the count rises some cycles before a byte is there. */
static uint32_t received(void) {
    static uint32_t known;
    uint32_t count = timer_value(COUNT);
    for (int i = 0; count != known && i < 32; i++) __asm volatile("nop");
    return known = count;
}

/* After an error the count may not be that of the bytes in RAM, as one with a wrong stop bit is not stored. So the
 * receiver is stopped, which tells where in the ring the last byte lies, and started again at the ring's first; what
 * was not read is kept. The count goes on: of bytes that come meanwhile (0.4 ms) the receiver holds four, and counts
 * them. */
static void restart_receiver(void) {
    UARTE0_SHORTS = 0;
    UARTE0_EVENTS_RXTO = 0;
    uint32_t count = timer_value(COUNT), waiting = count - start - taken;
    UARTE0_TASKS_STOPRX = 1;
    wait_until(&UARTE0_EVENTS_RXTO, 1, 1, STOP_TURNS, "the receiver's stop");
    uint32_t end = UARTE0_RXD_AMOUNT, left = 0, unread = (end - taken) % RING_BYTES;
    if (waiting > RING_BYTES || (!unread && waiting == RING_BYTES)) unread = RING_BYTES;
    if (unread > waiting) unread = 0; /* the byte that was read last had not been stored */
    while (kept_at < kept_end) kept[left++] = kept[kept_at++];
    kept_at = 0;
    for (uint32_t at = end - unread; unread && left < RING_BYTES; unread--) kept[left++] = ring[at++ % RING_BYTES];
    kept_end = left;
    start = count;
    taken = 0;
    start_receiver();
}

/* Notes an error; returns whether it is a BREAK. */
static int note_error(void) {
    UARTE0_EVENTS_ERROR = 0;
    uint32_t source = UARTE0_ERRORSRC;
    UARTE0_ERRORSRC = source;
    error.pending = 1;
    error.count = timer_value(COUNT);
    error.time = timer_value(TIME);
    return (source & UARTE0_ERRORSRC_BREAK) != 0;
}

/* Nothing is read between an error and the first quiet millisecond, in which the receiver starts again. */
static int is_unsettled(uint32_t count) {
    if (!error.pending) return 0;
    uint32_t now = timer_value(TIME);
    if (count != error.count) {
        error.count = count;
        error.time = now;
    }
    if (now - error.time <= QUIET_TIME) return 1;
    error.pending = 0;
    restart_receiver();
    return 0;
}

int port_read(void) {
    uint32_t count = received();
    if (UARTE0_EVENTS_ERROR && note_error()) return PORT_BREAK;
    if (is_unsettled(count)) return PORT_NOTHING;
    if (kept_at < kept_end) return kept[kept_at++];
    uint32_t waiting = count - start - taken;
    if ((int32_t)waiting <= 0) return PORT_NOTHING;
    if (waiting > RING_BYTES) taken += waiting - RING_BYTES; /* too many at once: the oldest are lost */
    return ring[taken++ % RING_BYTES];
}

void port_write(const uint8_t *bytes, size_t count) {
    while (count) {
        size_t part = count < OUT_BYTES ? count : OUT_BYTES;
        for (size_t i = 0; i < part; i++) out[i] = bytes[i]; /* what is written may be a constant in flash */
        bytes += part;
        count -= part;
        if (send_failed) return;
        UARTE0_EVENTS_ENDTX = 0;
        UARTE0_TXD_PTR = (uint32_t)(uintptr_t)out;
        UARTE0_TXD_MAXCNT = (uint32_t)part;
        __asm volatile("dsb" ::: "memory");
        UARTE0_TASKS_STARTTX = 1;
        send_failed = !wait_until(&UARTE0_EVENTS_ENDTX, 1, 1, SEND_TURNS, "the transmitter");
    }
}

/* A received byte ends the sleep, or TIMER0 after 10 ms, after an error 1. The core's counter stands still meanwhile. */
void port_idle(void) {
    uint64_t before = port_ticks();
    TIMER_EVENTS_COMPARE(TIME, 1) = 0;
    TIMER_CC(TIME, 1) = timer_value(TIME) + (error.pending ? QUIET_TIME + 1u : TIME_HZ / 100u);
    sleep_until_interrupt();
    TIMER_EVENTS_COMPARE(TIME, 1) = 0;
    UARTE0_EVENTS_RXDRDY = 0;
    (void)UARTE0_EVENTS_RXDRDY; /* the write has arrived when this returns */
    nvic_clear_pending(TIMER0_IRQ);
    nvic_clear_pending(UARTE0_IRQ);
    slept = ticks_after_sleep(before, coarse_time() * TICKS_PER_TIME, DWT_CYCCNT);
}
