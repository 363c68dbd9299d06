"""pico2: the Raspberry Pi Pico 2, and the Pico 2 W, whose radio nothing here uses; on one of its Cortex-M33 cores.

No emulator has this chip. The tests read an image as its boot ROM does, run its port functions on the host against
simulated registers, and hold its registers against Raspberry Pi's (tests/registers/rp2350.toml); the model's code is
that of virtual-m33.

The Pico 2 W has its LED on the radio chip: `LED` is that of the plain Pico 2, and a Pico 2 W shows nothing there.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

SDK = "pico-sdk 2.2.0, src/rp2350/hardware_regs/include/hardware/regs"
DATASHEET = "Raspberry Pi Pico 2 datasheet"

BOARD = Board(
    name="pico2",
    description="Raspberry Pi Pico 2 and Pico 2 W: RP2350, Cortex-M33F at 150 MHz, 4 MB flash, 520 KB RAM",
    core="Cortex-M33F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m33+dsp+fp_armv8d16sp",  # the bare name has neither DSP nor FPU
    features=frozenset({"dsp", "fpu"}),
    # as the boot ROM leaves it: two clocks a byte, at a third of clk_sys, as long as reads follow on each other
    flash=Memory(0x10000000, 4 << 20, bytes_per_s=25_000_000),
    # 512 KB in eight banks that take turns, then two banks of 4 KB
    ram=Memory(0x20000000, 520 << 10, bytes_per_s=600_000_000),
    stack_bytes=8 << 10,
    clock="seconds",
    code_in="ram",
    options=frozenset({"float-cache"}),
    aliases=("pico2-w",),
    clock_hz=150_000_000,
    flashers=("bootsel", "pyocd", "openocd"),
    programming=Programming(
        uf2_board="RP2350", pyocd="rp2350", openocd=("interface/cmsis-dap.cfg", "target/rp2350.cfg")
    ),
    usb=(Usb(0x1209, 0x0001, "port", "edge pico2 serial"), Usb(0x2E8A, 0x000F, "bootloader")),
    uf2_family=0xE48BFF59,
    pins={**{f"GP{n}": n for n in (*range(4, 23), 26, 27, 28)}, "LED": 25},
    cycle_counter="DWT CYCCNT, 150 MHz, completed to 64 bits by TIMER0; both run from the crystal",
    link="USB; or UART0 on GP0 (TX, pin 1) and GP1 (RX, pin 2), 115200 baud, 3.3 V, by an adapter",
    prefill_pin="GP2 (pin 4; pin 3 is ground)",
    decode_pin="GP3 (pin 5)",
    supplies=("USB, 5 V", "VSYS (pin 39), 1.8 to 5.5 V"),
    current="in series with VSYS, USB unplugged: there is no jumper; the converter's losses are in what is measured",
    sources={
        "core": "pico-sdk 2.2.0, src/rp2_common/cmsis/stub/CMSIS/Device/RP2350/Include/RP2350.h (FPU and DSP present)",
        "flash": f"{SDK}/addressmap.h; pico-sdk 2.2.0, src/boards/include/boards/pico2.h (4 MB). The speed is derived, "
        "not measured: 150 MHz / 3 / 2, by QMI's settings read on a Pico 2 after its boot ROM (TIMING 60007203, RFMT "
        "000492a8, RCMD 00eb: https://github.com/raspberrypi/pico-sdk/issues/1903) and their fields in "
        f"{SDK}/qmi.h; a page's 1024 bytes cost 20 clocks more. A divisor of 2, which pico2.h names, is not set: "
        "nobody could try it",
        "code_in": f"{SDK}/addressmap.h (XIP_SRAM): one cache of 16 KB holds code and weights from flash alike",
        "ram": f"{SDK}/addressmap.h; the speed is 4 bytes a clock, derived, not measured",
        "clock_hz": "pico-sdk 2.2.0, src/rp2350/hardware_regs/include/hardware/platform_defs.h (SYS_CLK_HZ)",
        "flashers": "the boot ROM's volume: RP2350 datasheet, 5.5",
        "usb": "the boot ROM's identifiers: https://github.com/raspberrypi/usb-pid; the port's: chosen here "
        "(boards/rp_usb.h)",
        "programming": "RP2350 datasheet, 5.5 (INFO_UF2.TXT); pyOCD 0.46's targets; OpenOCD after 0.12",
        "uf2_family": "pico-sdk 2.2.0, src/common/boot_uf2_headers",
        "pins": f"{DATASHEET}, pinout; pico-sdk 2.2.0, src/boards/include/boards/pico2.h (the LED)",
        "cycle_counter": f"Armv8-M Architecture Reference Manual, D1.2; {SDK}/timer.h, ticks.h",
        "link": f"{DATASHEET}, pinout; {SDK}/uart.h",
        "supplies": f"{DATASHEET}, powering",
        "current": f"{DATASHEET}, powering",
        "prefill_pin": "chosen here",
        "decode_pin": "chosen here",
        "image": "pico-sdk 2.2.0, src/common/boot_picobin_headers; the window of 4 KB: RP2350 datasheet, 5.9",
    },
    promised=False,  # no emulator has this chip, and none of its images has run on a board
)
