/* A simulated USB controller of the RP2040 and RP2350 around rp_usb.h, for tests on this machine: the memory and the
 * registers that the code may touch, and the host at the other end of the cable. Whatever the chip's documentation
 * forbids ends the process: an address outside, a packet changed while it is the controller's, AVAILABLE too early. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t usb_get(uint32_t address);
static void usb_put(uint32_t address, uint32_t value);
static uint8_t usb_get_byte(uint32_t address);
static void usb_put_byte(uint32_t address, uint8_t value);
static uint32_t usb_micros(void);
static int can_revoke = 1, bootloader_calls, settled;
static char serial_number[32];

static void usb_settle(void) {
    settled = 1;
}

static int chip_can_revoke(void) {
    return can_revoke;
}

static const char *chip_serial_number(void) {
    return serial_number;
}

static void rom_bootsel(void) {
    bootloader_calls++;
}

#define USB_SIMULATED
#define USB_PRODUCT "edge simulated"
#define USB_FRAME_END 800u

#include "rp_usb.h"

enum { ACK = 0, NAK = -1, STALLED = -2, NO_ANSWER = -3, TOGGLE = -4 };

static uint8_t dpram[USB_DPRAM_BYTES];
static uint32_t addr_endp, sie_status, buff_status, abort_asked, abort_done, stall_arm, sof, sie_ctrl, inte, main_ctrl;
static uint32_t micros;
static int in_toggle[16], frames_come = 1, worst_age, overwritten;
static uint32_t reads_every_us, read_us;
static uint8_t fetched[1 << 16];
static size_t fetched_bytes;

static void fail(const char *why, uint32_t address) {
    fprintf(stderr, "%s at %08x\n", why, (unsigned)address);
    abort();
}

static uint32_t word(uint32_t offset) {
    uint32_t value;
    memcpy(&value, dpram + offset, sizeof value);
    return value;
}

static void set_word(uint32_t offset, uint32_t value) {
    memcpy(dpram + offset, &value, sizeof value);
}

static uint32_t control_of(int n, int out) {
    return 0x80u + 8u * (uint32_t)n + 4u * (uint32_t)out;
}

/* Where an endpoint's buffer lies; endpoint 0's place is fixed. */
static uint32_t buffer_of(int n, int out) {
    if (n == 0) return 0x100u;
    uint32_t control = word(8u * (uint32_t)n + 4u * (uint32_t)out);
    uint32_t offset = control & 0xFFC0u;
    if (offset < 0x180u || offset + 64u > sizeof dpram) fail("a buffer outside", offset);
    return offset;
}

static int is_enabled(int n, int out) {
    return n == 0 || word(8u * (uint32_t)n + 4u * (uint32_t)out) >> 31;
}

static uint32_t usb_get(uint32_t address) {
    if (address % 4) fail("not aligned", address);
    if (address - USBCTRL_DPRAM_BASE < sizeof dpram) return word(address - USBCTRL_DPRAM_BASE);
    switch (address) {
    case USB_ADDR_ENDP: return addr_endp;
    case USB_MAIN_CTRL: return main_ctrl;
    case USB_SOF_RD: return sof;
    case USB_SIE_CTRL: return sie_ctrl;
    case USB_SIE_STATUS: return sie_status;
    case USB_BUFF_STATUS: return buff_status;
    case USB_EP_ABORT: return abort_asked;
    case USB_EP_ABORT_DONE: return abort_done;
    case USB_EP_STALL_ARM: return stall_arm;
    case USB_INTE: return inte;
    }
    fail("no register to read", address);
    return 0;
}

static int host_in(int n, uint8_t *bytes);

/* A buffer's word is changed: not while the packet is the controller's, AVAILABLE after all else, lengths that fit. */
static void put_control(uint32_t offset, uint32_t value) {
    uint32_t before = word(offset);
    int n = (int)(offset - 0x80u) / 8, out = offset & 4 ? 1 : 0;
    uint32_t bit = 1u << (2 * n + out);
    if (before & 0x400u && can_revoke && !(abort_asked & bit)) fail("the packet is the controller's", offset);
    if (before & 0x400u && !can_revoke) overwritten++;
    if (value & 0x400u) {
        if ((before | 0x400u) != value || !settled) fail("AVAILABLE came too early", offset);
        if ((value & 0x3FFu) > 64u) fail("a packet of more than 64 bytes", offset);
        if (!is_enabled(n, out)) fail("an endpoint that is not enabled", offset);
        buffer_of(n, out);
        if (!out && !(value & 0x8000u)) fail("an IN packet that is not FULL", offset);
        if (n == 2 && !out && frames_come) {
            int age = (int)(micros % 1000u);
            if (age > worst_age) worst_age = age;
        }
    }
    settled = 0;
    set_word(offset, value);
}

static void usb_put(uint32_t address, uint32_t value) {
    if (address % 4) fail("not aligned", address);
    uint32_t offset = address - USBCTRL_DPRAM_BASE;
    if (offset >= 0x80u && offset < 0x100u) {
        put_control(offset, value);
        return;
    }
    if (offset < sizeof dpram) {
        set_word(offset, value);
        return;
    }
    switch (address) {
    case USB_ADDR_ENDP: addr_endp = value; return;
    case USB_MAIN_CTRL: main_ctrl = value; return;
    case USB_SIE_CTRL: sie_ctrl = value; return;
    case USB_SIE_STATUS: sie_status &= ~value; return;
    case USB_BUFF_STATUS: buff_status &= ~value; return;
    case USB_EP_ABORT: abort_asked = value; abort_done |= value; return;
    case USB_EP_ABORT_DONE: abort_done &= ~value; return;
    case USB_EP_STALL_ARM: stall_arm = value; return;
    case USB_USB_MUXING:
    case USB_USB_PWR: return;
    case USB_INTE: inte = value; return;
    }
    fail("no register to write", address);
}

static uint8_t usb_get_byte(uint32_t address) {
    if (address - USBCTRL_DPRAM_BASE >= sizeof dpram) fail("outside", address);
    return dpram[address - USBCTRL_DPRAM_BASE];
}

static void usb_put_byte(uint32_t address, uint8_t value) {
    uint32_t offset = address - USBCTRL_DPRAM_BASE;
    if (offset < 0x100u || offset >= sizeof dpram) fail("outside the buffers", address);
    if (offset < 0x140u && word(control_of(0, 0)) & 0x400u && can_revoke) fail("the packet is the controller's", address);
    if (offset >= 0x200u && offset < 0x240u && word(control_of(2, 0)) & 0x400u) fail("the packet is on its way", address);
    dpram[offset] = value;
}

/* Each look at the clock takes 5 us, in which a frame may begin and a host that reads by itself may fetch a packet. */
static uint32_t usb_micros(void) {
    micros += 5;
    if (frames_come) sof = micros / 1000u & 0x7FFu;
    if (reads_every_us && micros - read_us >= reads_every_us) {
        read_us = micros;
        uint8_t packet[64];
        int bytes = host_in(2, packet);
        if (bytes > 0 && fetched_bytes + (size_t)bytes <= sizeof fetched) {
            memcpy(fetched + fetched_bytes, packet, (size_t)bytes);
            fetched_bytes += (size_t)bytes;
        }
    }
    return micros;
}

/* --- the host's end; endpoints answer at the device's address, which is told with each call */

static int answers(int address) {
    return (sie_ctrl & USB_SIE_CTRL_PULLUP_EN) && (int)addr_endp == address;
}

static int address_now;

void host_address(int address) {
    address_now = address;
}

/* An IN transfer: bytes received, NAK, STALLED, NO_ANSWER, or TOGGLE where DATA0 and DATA1 do not follow on. */
static int host_in(int n, uint8_t *bytes) {
    if (!answers(address_now) || !is_enabled(n, 0)) return NO_ANSWER;
    uint32_t control = word(control_of(n, 0));
    if (control & 0x800u && (n || stall_arm & 1)) return STALLED;
    if (!(control & 0x400u) || abort_asked & 1u << 2 * n) return NAK;
    uint32_t length = control & 0x3FFu;
    memcpy(bytes, dpram + buffer_of(n, 0), length);
    set_word(control_of(n, 0), control & ~0x8400u);
    buff_status |= 1u << 2 * n;
    int toggle = control & 0x2000u ? 1 : 0;
    if (toggle != in_toggle[n]) return TOGGLE;
    in_toggle[n] ^= 1;
    return (int)length;
}

int host_fetch(int n, uint8_t *bytes) {
    return host_in(n, bytes);
}

/* An OUT transfer. A packet whose toggle does not fit is one that came already: acknowledged and dropped. */
int host_out(int n, const uint8_t *bytes, int count, int toggle) {
    if (!answers(address_now) || !is_enabled(n, 1)) return NO_ANSWER;
    uint32_t control = word(control_of(n, 1));
    if (control & 0x800u && (n || stall_arm & 2)) return STALLED;
    if (!(control & 0x400u) || abort_asked & 2u << 2 * n) return NAK;
    if ((control & 0x2000u ? 1 : 0) != toggle) return ACK;
    uint32_t room = control & 0x3FFu, length = (uint32_t)count < room ? (uint32_t)count : room;
    memcpy(dpram + buffer_of(n, 1), bytes, length);
    set_word(control_of(n, 1), (control & ~0x7FFu) | 0x8000u | length);
    buff_status |= 2u << 2 * n;
    return ACK;
}

/* A SETUP is always taken. */
int host_setup(const uint8_t *setup) {
    if (!answers(address_now)) return NO_ANSWER;
    memcpy(dpram, setup, 8);
    stall_arm = 0;
    sie_status |= USB_SIE_STATUS_SETUP_REC;
    in_toggle[0] = 1;
    return ACK;
}

void host_toggle(int n, int toggle) {
    in_toggle[n] = toggle;
}

void host_reset(void) {
    sie_status |= USB_SIE_STATUS_BUS_RESET;
    address_now = 0;
    memset(in_toggle, 0, sizeof in_toggle);
}

/* The controller after power-on, and the device before usb_init; the memory holds anything. */
void board_start(int revoke, int frames, const char *serial) {
    memset(dpram, 0xA5, sizeof dpram);
    for (uint32_t offset = 0x80; offset < 0x100; offset += 4) set_word(offset, 0xA5A5A1A5u & ~0x400u);
    memset(&usb, 0, sizeof usb);
    addr_endp = sie_status = buff_status = abort_asked = abort_done = stall_arm = sof = sie_ctrl = inte = 0;
    main_ctrl = 4;
    micros = 0;
    can_revoke = revoke;
    frames_come = frames;
    bootloader_calls = worst_age = overwritten = 0;
    reads_every_us = read_us = 0;
    fetched_bytes = 0;
    address_now = 0;
    memset(in_toggle, 0, sizeof in_toggle);
    strncpy(serial_number, serial, sizeof serial_number - 1);
    usb_init();
}

void board_poll(void) { usb_poll(); }
int board_read(void) { return usb_read(); }
void board_write(const uint8_t *bytes, size_t count) { usb_write(bytes, count); }
int board_waiting(void) { return usb_waiting(); }
int board_bootloader_calls(void) { return bootloader_calls; }
uint32_t board_micros(void) { return micros; }
void board_pass(uint32_t us) { micros += us; }
int board_worst_age(void) { return worst_age; }
uint32_t board_interrupts(void) { return inte; }
uint32_t board_main_ctrl(void) { return main_ctrl; }
void host_reads_every(uint32_t us) { reads_every_us = us; }
int board_overwritten(void) { return overwritten; }
void host_frames(int come) { frames_come = come; }
size_t host_fetched(uint8_t *bytes) { memcpy(bytes, fetched, fetched_bytes); return fetched_bytes; }

#ifdef FUZZ
/* Anything that a host could send, and some that it could not, in any order. What must hold is in fail() above, in the
 * sanitizers, and here: every call ends in bounded time, and after a reset the device can be read as ever. */
static uint64_t state;

static uint32_t chance(uint32_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 16) % below;
}

static void likely_setup(uint8_t *setup) {
    static const uint8_t types[] = {0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x20, 0x21, 0xA0, 0xA1, 0x22, 0x40, 0xC0};
    static const uint16_t indexes[] = {0, 1, 2, 0x80, 0x81, 0x82, 0x0409, 0xFFFF}, lengths[] = {0, 1, 7, 8, 64, 75, 255, 65535};
    static const uint16_t values[] = {0, 1, 2, 3, 5, 0x100, 0x200, 0x300, 0x301, 0x302, 0x303, 0x3EE, 0x600};
    setup[0] = types[chance(sizeof types)];
    setup[1] = (uint8_t)(chance(2) ? chance(13) : 0x20 + chance(5));
    uint16_t value = values[chance(13)], index = indexes[chance(8)], length = lengths[chance(8)];
    setup[2] = (uint8_t)value, setup[3] = (uint8_t)(value >> 8);
    setup[4] = (uint8_t)index, setup[5] = (uint8_t)(index >> 8);
    setup[6] = (uint8_t)length, setup[7] = (uint8_t)(length >> 8);
}

static void act(void) {
    uint8_t bytes[64], setup[8];
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)chance(256);
    uint32_t before = micros;
    switch (chance(12)) {
    case 0:
        for (int i = 0; i < 8; i++) setup[i] = (uint8_t)chance(256);
        host_setup(setup);
        break;
    case 1:
    case 2:
        likely_setup(setup);
        host_setup(setup);
        break;
    case 3: host_in((int)chance(3), bytes); break;
    case 4: host_in(0, bytes); break;
    case 5: host_out((int)chance(3), bytes, (int)chance(65), (int)chance(2)); break;
    case 6: host_out(0, bytes, (int)chance(9), 1); break;
    case 7: usb_read(); break;
    case 8: usb_write(bytes, chance(65)); break;
    case 9: address_now = (int)(chance(2) ? addr_endp : chance(128)); break;
    case 10:
        if (chance(20) == 0) host_reset();
        frames_come = (int)chance(2);
        reads_every_us = chance(2) ? 0 : chance(2000);
        break;
    default: usb_poll();
    }
    if (micros - before > 2200000u) fail("a call took more than 2.2 s", micros - before);
    fetched_bytes = 0;
}

static void still_there(void) {
    static const uint8_t wanted[8] = {0x80, 6, 0, 1, 0, 0, 64, 0};
    uint8_t bytes[64];
    reads_every_us = 0;
    host_reset();
    usb_poll();
    host_setup(wanted);
    usb_poll();
    if (host_in(0, bytes) != 18 || bytes[1] != 1) fail("the device is not there any more", 0);
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    uint32_t first = (uint32_t)atoi(arguments[1]), seeds = (uint32_t)atoi(arguments[2]);
    for (uint32_t seed = first; seed < first + seeds; seed++) {
        state = 0x9E3779B97F4A7C15u ^ (uint64_t)seed << 20;
        board_start((int)chance(2), (int)chance(2), chance(2) ? "0123456789ABCDEF" : "");
        for (int i = atoi(arguments[3]); i; i--) act();
        still_there();
    }
    puts("fine");
    return 0;
}
#endif
