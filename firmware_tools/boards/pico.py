"""pico: the Raspberry Pi Pico, and the Pico W, whose radio nothing here uses.

The Pico W has its LED on the radio chip: `LED` is that of the plain Pico, and a Pico W shows nothing there.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

SDK = "pico-sdk 2.2.0, src/rp2040/hardware_regs/include/hardware/regs"
DATASHEET = "Raspberry Pi Pico datasheet"

BOARD = Board(
    name="pico",
    description="Raspberry Pi Pico and Pico W: RP2040, Cortex-M0+ at 125 MHz, 2 MB flash, 264 KB RAM",
    core="Cortex-M0+",
    target="thumb-freestanding-eabi",
    cpu="cortex_m0plus",
    features=frozenset({"v6m", "pair"}),
    # each read takes 8 clocks of address and mode bits, 4 of waiting and 8 for 4 bytes, at 62.5 MHz
    flash=Memory(0x10000000, 2 << 20, bytes_per_s=12_500_000),
    # 256 KB in four banks that take turns, then two of 4 KB, the last of which is left for the second core's stack
    ram=Memory(0x20000000, 260 << 10, bytes_per_s=500_000_000),
    stack_bytes=8 << 10,
    clock="seconds",
    code_in="ram",
    emulators=("rp2040js",),
    options=frozenset({"wide"}),
    aliases=("pico-w",),
    clock_hz=125_000_000,
    flashers=("bootsel", "pyocd", "openocd"),
    programming=Programming(
        uf2_board="RPI-RP2", pyocd="rp2040", openocd=("interface/cmsis-dap.cfg", "target/rp2040.cfg")
    ),
    usb=(Usb(0x1209, 0x0001, "port", "edge pico serial"), Usb(0x2E8A, 0x0003, "bootloader")),
    uf2_family=0xE48BFF56,
    pins={**{f"GP{n}": n for n in (*range(4, 23), 26, 27, 28)}, "LED": 25},
    cycle_counter="SysTick, 24 bits, completed by the 64-bit TIMER; both run from the crystal",
    link="USB; or UART0 on GP0 (TX, pin 1) and GP1 (RX, pin 2), 115200 baud, 3.3 V, by an adapter",
    prefill_pin="GP2 (pin 4; pin 3 is ground)",
    decode_pin="GP3 (pin 5)",
    supplies=("USB, 5 V", "VSYS (pin 39), 1.8 to 5.5 V"),
    current="in series with VSYS, USB unplugged: there is no jumper; the converter's losses are in what is measured",
    sources={
        "flash": f"{SDK}/addressmap.h and {DATASHEET}; the speed is derived from boards/rp2040_boot2.S, not measured",
        "ram": f"{SDK}/addressmap.h; the speed is 4 bytes a clock, derived, not measured",
        "code_in": f"{SDK}/addressmap.h (XIP_SRAM): one cache of 16 KB holds code and weights from flash alike",
        "clock_hz": "pico-sdk 2.2.0, src/rp2_common/hardware_clocks (PLL settings), src/rp2040 (default of 125 MHz)",
        "programming": "RP2040 datasheet, 2.8 (INFO_UF2.TXT); pyOCD 0.46's targets; OpenOCD 0.12's scripts",
        "uf2_family": "pico-sdk 2.2.0, src/common/boot_uf2_headers",
        "usb": "the boot ROM's identifiers: RP2040 datasheet, 2.8; the port's: chosen here (boards/rp_usb.h)",
        "pins": f"{DATASHEET}, pinout; LED is the plain Pico's: a Pico W has its own on the radio chip",
        "cycle_counter": f"{SDK}/m0plus.h, timer.h, watchdog.h",
        "link": f"{DATASHEET}, pinout; {SDK}/uart.h",
        "supplies": f"{DATASHEET}, Powering Pico",
        "current": f"{DATASHEET}, Powering Pico",
        "prefill_pin": "chosen here",
        "decode_pin": "chosen here",
    },
    promised=True,
    checked="rp2040js (this chip)",
)
