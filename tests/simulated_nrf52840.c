/* The port of the nRF52840-DK on this machine, around a simulated chip: CLOCK, UARTE0 with EasyDMA, TIMER0, TIMER1,
 * PPI, DWT, NVIC, after Nordic's product specification. Simulated, not emulated: it knows what the port uses, and stops
 * the program where the port does what the chip would not bear. Commands on stdin, one a line; see main.
 *
 * Every access to a register passes through REGISTER, which first lets the chip do what the last access asked for. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __ARM_ARCH 7
#define REGISTER(address) (*chip_register(address))
#define __asm
#define volatile(...) chip_instruction(#__VA_ARGS__) /* of `__asm volatile(…)`; elsewhere no parenthesis follows it */
#define EDGE_WAIT_H /* wait.h, which has its own tests, would not let the chip go on while it waits */

static volatile uint32_t *chip_register(uint32_t address);
static void chip_instruction(const char *text);
static void chip_goes_on(uint64_t cycles);
static char trouble[101];

static void trouble_note(const char *what) {
    if (*trouble) strcat(trouble, ", ");
    strcat(trouble, what);
}

static int wait_until(const volatile uint32_t *where, uint32_t mask, uint32_t value, uint32_t turns, const char *what) {
    for (; turns; turns--) {
        if ((*where & mask) == value) return 1;
        chip_goes_on(5);
    }
    trouble_note(what);
    return 0;
}

const char *port_trouble(void);
const char *port_trouble(void) {
    return trouble;
}

#include "nrf52840_dk.c"

#define FRAME 5555u /* cycles of ten bits at 115,200 baud */
#define FIFO_BYTES 4u
#define WORDS 0x10000u

extern char __data_start[], _end[]; /* RAM: all that is neither code nor constant */

static uint64_t now; /* in cycles of 64 MHz */
static uint32_t apb[WORDS], gpio[WORDS], info[WORDS], core[WORDS];
static uint32_t *last; /* the register that was accessed last */
static int crystal = 1, counts_bad; /* is a byte with a wrong stop bit counted */
static uint64_t crystal_at = UINT64_MAX, compare_at = UINT64_MAX, timer_from[2], cycles_from, asleep;
static uint32_t uicr = 0xFFFFFFFFu, cycles_held, counted, nvic_pending, nvic_enabled, error_source;
static uint64_t stop_at = UINT64_MAX;
static enum { RX_OFF, RX_ON, RX_STOPPING } receiver;
static uint32_t rx_at, rx_end, rx_done, fifo_count, landing_at;
static uint8_t fifo[FIFO_BYTES], landing;
static uint64_t lands_at = UINT64_MAX; /* a byte on its way to RAM */
static uint32_t tx_at, tx_left, lost;
static uint64_t tx_next = UINT64_MAX;
static struct {
    uint64_t at;
    int byte; /* -1: a wrong stop bit; -2: a BREAK */
} line[65536];
static size_t line_first, line_end;
static uint64_t line_free; /* when the host can send again */

static void fail(const char *why) {
    printf("\nFAIL %s\n", why);
    fflush(stdout);
    exit(3);
}

static uint32_t *word(uint32_t address) {
    uint32_t place = (address & 0x3FFFFu) / 4u;
    if (address % 4) fail("a register at an odd address");
    if (address >> 18 == 0x40000000u >> 18) return apb + place;
    if (address >> 18 == 0x50000000u >> 18) return gpio + place;
    if (address >> 18 == 0x10000000u >> 18) return info + place;
    if (address >> 18 == 0xE0000000u >> 18) return core + place;
    fail("no register is there");
    return 0;
}

/* What EasyDMA reaches at an address of 32 bits. */
static uint8_t *dma(uint32_t address) {
    uint32_t offset = address - (uint32_t)(uintptr_t)__data_start;
    if (offset >= (uint32_t)(_end - __data_start)) fail("EasyDMA outside RAM");
    return (uint8_t *)__data_start + offset;
}

static uint32_t low(uint32_t address) {
    return (uint32_t)(uintptr_t)word(address);
}

static void pend(uint32_t irq) {
    nvic_pending |= 1u << irq;
}

static void lines_of_interrupt(void) {
    uint32_t enabled = *word(0x40002304);
    if ((*word(0x40002108) && enabled & 1u << 2) || (*word(0x40002124) && enabled & 1u << 9)) pend(2);
    if (*word(0x40008144) && *word(0x40008304) & 1u << 17) pend(8);
}

static void byte_received(void) {
    *word(0x40002108) = 1;
    int connected = *word(0x4001F510) == low(0x40002108) && *word(0x4001F514) == low(0x40009008);
    int counting = *word(0x40009504) == 2 && *word(0x40009508) == 3 && timer_from[1];
    if (*word(0x4001F504) & 1 && connected && counting) counted++;
}

static void rx_latch(void) {
    rx_at = *word(0x40002534);
    rx_end = *word(0x40002538);
    rx_done = 0;
}

static void rx_store(uint8_t byte) {
    if (lands_at != UINT64_MAX) *dma(landing_at) = landing;
    landing_at = rx_at + rx_done++;
    landing = byte;
    lands_at = now + 100; /* how long it takes is in no manual */
    if (rx_done < rx_end) return;
    *word(0x40002110) = 1;
    *word(0x4000253C) = rx_done;
    if (*word(0x40002200) & 1u << 5)
        rx_latch();
    else
        receiver = RX_OFF;
}

static void rx_byte(uint8_t byte) {
    int set_up = *word(0x40002500) == 8 && *word(0x40002524) == 0x01D60000 && *word(0x40002514) == 8;
    if (!set_up) fail("UARTE0 is not set up");
    if (receiver == RX_ON) {
        byte_received();
        rx_store(byte);
    } else if (fifo_count < FIFO_BYTES) {
        if (!fifo_count) byte_received(); /* the others are counted when they come to the front */
        fifo[fifo_count++] = byte;
    } else {
        lost++;
    }
}

static void rx_start(void) {
    receiver = RX_ON;
    rx_latch();
    for (uint32_t i = 0; i < fifo_count; i++) {
        if (i) byte_received();
        rx_store(fifo[i]);
    }
    fifo_count = 0;
}

static void line_event(int byte) {
    if (byte >= 0) {
        rx_byte((uint8_t)byte);
        return;
    }
    error_source |= byte == -2 ? 0xCu : 0x4u;
    *word(0x40002124) = 1;
    if (counts_bad && receiver == RX_ON) byte_received();
}

static int take(uint32_t address) {
    uint32_t *task = word(address);
    int asked = *task == 1;
    *task = 0;
    return asked;
}

/* What the last access asked for. */
static void tasks(void) {
    if (take(0x40000000) && crystal) crystal_at = now + 23000; /* .36 ms */
    for (uint32_t timer = 0; timer < 2; timer++) {
        uint32_t base = 0x40008000 + timer * 0x1000;
        if (take(base)) timer_from[timer] = now | 1;
        if (!take(base + 0x40)) continue;
        if (timer == 0 && (*word(base + 0x504) != 0 || *word(base + 0x508) != 3)) fail("TIMER0 is not set up");
        uint64_t cycles = 4ull << *word(base + 0x510); /* 16 MHz, divided */
        *word(base + 0x540) = timer ? counted : (uint32_t)((now - timer_from[0]) / cycles);
    }
    if (take(0x40002000)) rx_start();
    if (take(0x40002004)) {
        receiver = RX_STOPPING;
        stop_at = now + 5 * FRAME;
    }
    if (take(0x40002008)) {
        if (tx_next != UINT64_MAX) fail("a transmission was started while another ran");
        tx_at = *word(0x40002544);
        tx_left = *word(0x40002548);
        tx_next = now + FRAME;
    }
    if (last == word(0xE000E280)) nvic_pending &= ~*last, *last = 0;
    nvic_enabled |= *word(0xE000E100); /* ones enable, zeros do nothing */
    lines_of_interrupt();
}

/* What happens at this moment. */
static void moment(void) {
    if (now >= crystal_at) *word(0x4000040C) = 0x10001;
    if (now >= lands_at) *dma(landing_at) = landing, lands_at = UINT64_MAX;
    for (; line_first < line_end && now >= line[line_first].at; line_first++) line_event(line[line_first].byte);
    if (now >= stop_at) {
        receiver = RX_OFF;
        stop_at = UINT64_MAX;
        *word(0x40002110) = *word(0x40002144) = 1;
        *word(0x4000253C) = rx_done;
    }
    if (now >= tx_next) {
        printf("%02x", *dma(tx_at++));
        tx_next = --tx_left ? tx_next + FRAME : UINT64_MAX;
        if (!tx_left) *word(0x40002120) = 1, printf("\n");
    }
    if (now >= compare_at) *word(0x40008144) = 1, compare_at = UINT64_MAX;
    lines_of_interrupt();
}

/* When TIMER0 will be what CC[1] is. */
static void compare_next(void) {
    static uint32_t known;
    uint32_t wanted = *word(0x40008544), time = (uint32_t)((now - timer_from[0]) / 2048);
    if (!timer_from[0] || wanted == known) return;
    known = wanted;
    compare_at = timer_from[0] + ((now - timer_from[0]) / 2048 + (uint32_t)(wanted - time)) * 2048;
}

/* To the next moment at which something happens, at most to end. */
static void chip_goes_on_to(uint64_t end) {
    const uint64_t moments[] = {crystal_at, lands_at, stop_at, tx_next, compare_at};
    uint64_t next = line_first < line_end && line[line_first].at < end ? line[line_first].at : end;
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++)
        if (moments[i] > now && moments[i] < next) next = moments[i];
    now = next > now ? next : now + 1;
    moment();
}

static void chip_goes_on(uint64_t cycles) {
    uint64_t end = now + cycles;
    tasks();
    compare_next();
    while (now < end) chip_goes_on_to(end);
}

static int cycles_on(void) {
    return (*word(0xE0001000) & 1) != 0;
}

static uint32_t cycle_counter(void) {
    return cycles_on() ? (uint32_t)(now - asleep - cycles_from) : cycles_held;
}

/* What the last access did to DWT and to UICR, which is flash. */
static void writes(uint32_t shown) {
    if (last == word(0x10001208) && *last != uicr) {
        if (*word(0x4001E504) != 1) fail("flash is written while it may only be read");
        if (*last & ~uicr) fail("a bit of flash is written that is not erased");
        uicr = *last;
    }
    if (last == word(0xE0001004) && *last != shown) {
        cycles_held = *last;
        cycles_from = now - asleep - *last;
    }
    if (last == word(0xE0001000) && cycles_on()) cycles_from = now - asleep - cycles_held;
}

static volatile uint32_t *chip_register(uint32_t address) {
    static uint32_t shown; /* what CYCCNT showed */
    uint32_t *at = word(address);
    if (last) writes(shown);
    if (last == at && address == 0x40002480) error_source &= ~*at; /* the port reads it, then writes what it read */
    chip_goes_on(4);
    if (address == 0x40002480) *at = error_source;
    if (address == 0xE0001004) *at = shown = cycle_counter();
    return last = at;
}

static void chip_instruction(const char *text) {
    uint64_t since = now;
    if (strstr(text, "nop")) chip_goes_on(4); /* with the loop around it */
    if (!strstr(text, "wfi")) return;
    chip_goes_on(1);
    while (!(nvic_pending & nvic_enabled)) {
        if (now - since > 64000000 / 50) fail("it sleeps for ever");
        chip_goes_on_to(now + 64000000 / 20);
    }
    asleep += now - since; /* the core's counter stands still */
}

static void host_sends(int byte) {
    if (line_free < now) line_free = now;
    line_free += byte == -2 ? 3 * FRAME : FRAME;
    line[line_end].at = line_free;
    line[line_end++].byte = byte;
}

/* The main loop for so many microseconds. */
static void main_loop(uint64_t us) {
    for (uint64_t end = now + us * 64; now < end;) {
        int byte = port_read();
        if (byte == PORT_NOTHING)
            port_idle();
        else if (byte == PORT_BREAK)
            printf("BREAK ");
        else
            printf("%02x", (unsigned)byte);
    }
    printf("\n");
}

static const uint8_t constant[2048] = {[0] = 'f', [1] = 'l', [2] = 'a', [3] = 's', [4] = 'h', [2047] = '.'};

int main(void) {
    char command[32];
    unsigned long long n, m;
    for (uint32_t *at = word(0x10000000); at < info + WORDS; at++) *at = 0xFFFFFFFFu;
    *word(0x10000100) = 0x52840, *word(0x10000130) = 8, *word(0x10000134) = 5;
    *word(0x4001E400) = 1;
    while (scanf("%31s %llx", command, &n) == 2) {
        if (!strcmp(command, "crystal")) crystal = (int)n;
        else if (!strcmp(command, "counts_bad")) counts_bad = (int)n;
        else if (!strcmp(command, "uicr")) *word(0x10001208) = uicr = (uint32_t)n;
        else if (!strcmp(command, "set") && scanf("%llx", &m) == 1) *word((uint32_t)n) = (uint32_t)m;
        else if (!strcmp(command, "get")) tasks(), printf("%x\n", *word((uint32_t)n));
        else if (!strcmp(command, "init")) port_init();
        else if (!strcmp(command, "sends")) host_sends((int)n);
        else if (!strcmp(command, "sends_bad")) host_sends(-1);
        else if (!strcmp(command, "sends_break")) host_sends(-2);
        else if (!strcmp(command, "pause")) line_free = (line_free < now ? now : line_free) + n * 64;
        else if (!strcmp(command, "computes")) chip_goes_on(n * 64);
        else if (!strcmp(command, "loops")) main_loop(n);
        else if (!strcmp(command, "writes")) port_write(constant, (size_t)n);
        else if (!strcmp(command, "gate")) port_gate((unsigned)n >> 1, n & 1);
        else if (!strcmp(command, "pin")) port_pin((unsigned)n >> 1, n & 1);
        else if (!strcmp(command, "time")) printf("%llu %u %llu\n", (unsigned long long)port_ticks(), port_millis(),
                                                  (unsigned long long)now);
        else if (!strcmp(command, "says")) printf("%s|%s|%u\n", port_name(), port_trouble(), port_ticks_hz());
        else fail("no such command");
        fflush(stdout);
    }
    if (lost) fail("the receiver lost bytes");
    return 0;
}
