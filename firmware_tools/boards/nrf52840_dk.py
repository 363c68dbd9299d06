"""nrf52840-dk: Nordic's development kit PCA10056 with an nRF52840 and a J-Link on the board.

No emulator has this chip's peripherals. The tests compile the port against simulated ones (tests/test_nrf52840_dk.py),
run the image on an emulated core with simulated ones (tests/test_nrf52840_image.py), and check its registers against
Nordic's (tests/registers/nrf52840.toml).

Chips of revision 3 come with a locked debug port: what flashes the kit first must erase all of it, and the firmware
then sees to it that it stays open (nrf52840_dk.c).

Of 48 pins those that lead to a header and have no other use on the kit are in `pins`. `LED` is LED1, lit by a low
level: its number is that of P0.13 plus 128, which tells `port_pin` so; `P0.13` is the bare pin.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

ACTIVE_LOW = 128
HEADER = (*((0, n) for n in (3, 4, 26, 27, 28, 29, 30, 31)), *((1, n) for n in (*range(3, 9), *range(10, 16))))
LEDS = ((0, 13), (0, 14), (0, 15), (0, 16))
MDK = "https://github.com/NordicSemiconductor/nrfx at v4.2.1, bsp/stable/mdk"
DTS = "https://github.com/zephyrproject-rtos/zephyr, boards/nordic/nrf52840dk/nrf52840dk_nrf52840.dts"
PINCTRL = "https://github.com/zephyrproject-rtos/zephyr, boards/nordic/nrf52840dk/nrf52840dk_nrf52840-pinctrl.dtsi"

BOARD = Board(
    name="nrf52840-dk",
    description="Nordic nRF52840-DK (PCA10056), Cortex-M4F at 64 MHz, 1 MB flash, 256 KB RAM",
    core="Cortex-M4F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m4+vfp4d16sp",  # the bare name is compiled for soft float, silently
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x00000000, 1 << 20),
    ram=Memory(0x20000000, 256 << 10),
    stack_bytes=8 << 10,
    clock="seconds",
    options=frozenset({"float-cache"}),
    clock_hz=64_000_000,
    flashers=("pyocd", "openocd"),
    programming=Programming(pyocd="nrf52840", openocd=("board/nordic_nrf52_dk.cfg",)),
    usb=tuple(Usb(0x1366, pid, "probe", "J-Link") for pid in (0x1015, 0x1051, 0x1061, 0x0105)),
    pins={"LED": ACTIVE_LOW + 13, **{f"P{port}.{n:02}": 32 * port + n for port, n in sorted((*HEADER, *LEDS))}},
    cycle_counter="DWT CYCCNT, 64 MHz, completed to 64 bits by TIMER0 at 31,250 Hz",
    link="USB cable at the J-Link's connector (J2): its port is UARTE0 (TX P0.06, RX P0.08), 115,200 baud; "
    "the J-Link connects the pins while a program holds DTR",
    prefill_pin="P1.01 (Arduino header D0)",
    decode_pin="P1.02 (Arduino header D1)",
    supplies=("USB at J2", "external at P21, with SW9 at VDD and SW10 on"),
    current="an ammeter or a power profiler in place of the jumper on P22, after cutting solder bridge SB40",
    sources={
        "core": f"{MDK}/nrf52840.h (__CM4_REV, __FPU_PRESENT)",
        "flash": f"{MDK}/nrf52840_xxaa_memory.h",
        "ram": f"{MDK}/nrf52840_xxaa_memory.h",
        "clock_hz": f"{MDK}/system_nrf52.c (its default clock); that the crystal makes it exact: nrf52840.h, HFCLKSTAT",
        "flashers": "https://github.com/zephyrproject-rtos/zephyr, boards/nordic/nrf52840dk/board.cmake",
        "programming": "pyOCD 0.46's targets; OpenOCD 0.12's scripts (J-Link, SWD, any nRF52)",
        "usb": "https://github.com/openocd-org/openocd, contrib/60-openocd.rules (J-Links; which a kit has: unread)",
        "pins": f"{DTS} (arduino_header, leds: GPIO_ACTIVE_LOW, gpio-line-names)",
        "cycle_counter": "ARMv7-M Architecture Reference Manual, C1.8; TIMER0: tests/registers/nrf52840.toml",
        "link": f"{PINCTRL}; DTR: Nordic's nRF21540 DK Hardware, Virtual serial port (another kit with an nRF52840)",
        "prefill_pin": DTS,
        "decode_pin": DTS,
        "supplies": "https://docs.zephyrproject.org/latest/samples/shields/npm2100_ek (P21, SW9, SW10 of this kit)",
        "current": "https://devzone.nordicsemi.com/f/nordic-q-a/122131 (P22); "
        "https://devzone.nordicsemi.com/community/backstage/f/backstage-forum/56821 (SB40)",
        "dc_dc": f"{DTS} (regulator-initial-mode NRF5X_REG_MODE_DCDC: the kit has the inductor)",
        "approtect": f"{MDK}/system_nrf52_approtect.h, nrf52_erratas.h (configuration 249); an erased chip locks at "
        "its next power-on: https://github.com/ferrous-systems/rust-exercises/issues/75; that older ones are locked by "
        "what opens newer ones: https://github.com/apache/mynewt-core/pull/3023",
    },
    promised=False,  # no emulator has its peripherals, and none of its images has run on a board
)
