/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* What the firmware asks of the boot ROM of RP2040 and RP2350: to start its USB boot loader (BOOTSEL), and, of an RP2350,
 * who it is. The ROM finds its functions by codes of two letters (RP2040 datasheet 2.8.3; RP2350 datasheet 5.4; codes,
 * places and arguments as in pico-sdk 2.2.0, boot/bootrom_constants.h and boot/picoboot_constants.h).
 *
 * A chip's header includes this once and has defined ROM_VERSION: 1 for the RP2040, 2 for the RP2350. Where no such ROM
 * is (emulators come without), nothing is called. */
#ifndef EDGE_RP_ROM_H
#define EDGE_RP_ROM_H

#include <stdint.h>

#define ROM_MAGIC 0x10u /* 'M', 'u' and the version */
#define ROM_CODE(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8)
#if ROM_VERSION == 1
#define ROM_TABLE 0x14u  /* where the table of functions lies, */
#define ROM_LOOKUP 0x18u /* and what looks a code up in it */
#else
#define ROM_LOOKUP 0x16u /* looks a code up, by who asks */
#define ROM_ARM_SECURE 0x04u
#define ROM_REBOOT_BOOTSEL 0x02u
#define ROM_REBOOT_NO_RETURN 0x100u
#define ROM_CHIP_INFO 0x01u
#endif

/* 16 bits of the ROM. The compiler must not see the address: it takes small ones for null pointers. */
static uint32_t rom_half(uint32_t address) {
    __asm volatile("" : "+r"(address));
    return *(const volatile uint16_t *)address;
}

/* Calls a function of the ROM with three arguments and a fourth that is 0. It is reached by POP, since a branch through a
 * register could be one to any function of ours, for whoever counts how deep the stack can get; for what the ROM's own
 * functions need there (it is not documented) 512 bytes are shown. */
#define ARGUMENT __attribute__((unused)) uint32_t
__attribute__((naked, noinline)) static uint32_t rom_call(ARGUMENT function, ARGUMENT a, ARGUMENT b, ARGUMENT c) {
    __asm volatile(
        "sub sp, #256\n sub sp, #256\n add sp, #256\n add sp, #256\n"
        "push {r0}\n"
        "mov r0, r1\n mov r1, r2\n mov r2, r3\n movs r3, #0\n"
        "pop {pc}\n");
}

/* The ROM's function of that code, or 0. */
static uint32_t rom_function(uint32_t code) {
    if (rom_half(ROM_MAGIC) != ROM_CODE('M', 'u') || (rom_half(ROM_MAGIC + 2) & 0xFFu) != ROM_VERSION) return 0;
#if ROM_VERSION == 1
    return rom_call(rom_half(ROM_LOOKUP), rom_half(ROM_TABLE), code, 0);
#else
    return rom_call(rom_half(ROM_LOOKUP), code, ROM_ARM_SECURE, 0);
#endif
}

/* Starts the boot loader, which shows a volume; does not come back where there is one. */
static void rom_bootsel(void) {
#if ROM_VERSION == 1
    uint32_t reset_usb_boot = rom_function(ROM_CODE('U', 'B'));
    if (reset_usb_boot) rom_call(reset_usb_boot, 0, 0, 0); /* no pin blinks, all interfaces are there */
#else
    uint32_t reboot = rom_function(ROM_CODE('R', 'B'));
    if (reboot) rom_call(reboot, ROM_REBOOT_BOOTSEL | ROM_REBOOT_NO_RETURN, 10, 0); /* in 10 ms; the same */
#endif
}

#if ROM_VERSION == 2
/* The 64 bits that are this chip's alone, as 16 hexadecimal digits; "" where the ROM does not tell. */
static const char *rom_chip_id(void) {
    static char digits[17];
    static uint8_t asked;
    if (asked) return digits;
    asked = 1;
    uint32_t told[4] = {0}; /* what was asked for, the package, the id's low word and its high one */
    uint32_t get_sys_info = rom_function(ROM_CODE('G', 'S'));
    if (!get_sys_info || rom_call(get_sys_info, (uint32_t)(uintptr_t)told, 4, ROM_CHIP_INFO) != 4) return digits;
    for (int i = 0; i < 16; i++) digits[i] = "0123456789ABCDEF"[told[3 - i / 8] >> (28 - 4 * (i % 8)) & 15u];
    return digits;
}
#endif

#endif
