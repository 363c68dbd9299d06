"""netduinoplus2: a Netduino Plus 2, with an STM32F405. It is no longer made, and is here since QEMU has it.

QEMU's machine has the chip's memory, USARTs and timers, but no clocks: its crystal and PLL never become ready, which is
what tests the firmware's way out. QEMU's timers count nanoseconds, whatever the clocks are. QEMU 7.2 has no
core-coupled memory.

The 64 KB of core-coupled memory, which only the core's data bus reaches, take buffers and weights.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory, Programming

MICROPYTHON = "micropython/micropython ports/stm32/boards/NETDUINO_PLUS_2"
CHIP = "ST's stm32f405xx.h (CMSIS device header); RM0090"

BOARD = Board(
    name="netduinoplus2",
    description="Netduino Plus 2: STM32F405, Cortex-M4F, 168 MHz, 1 MB flash, 192 KB RAM",
    core="Cortex-M4F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m4+vfp4d16sp",
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x08000000, 1 << 20, 448_000_000),
    ram=Memory(0x20000000, 128 << 10, 672_000_000, "SRAM"),
    more_ram=(Memory(0x10000000, 64 << 10, 672_000_000, "CCM"),),
    stack_bytes=8 << 10,
    clock="seconds",
    clock_hz=168_000_000,
    emulators=("qemu",),
    machine=Machine(qemu="netduinoplus2", counter_hz=1_000_000_000, more_ram_since=(8, 0), serial=5),
    options=frozenset({"float-cache"}),
    flashers=("openocd",),
    programming=Programming(rom_id=0x413, openocd=("interface/stlink.cfg", "target/stm32f4x.cfg")),
    pins={
        "LED": 10,
        **{"D2": 3, "D3": 2, "D4": 28, "D5": 24, "D6": 25, "D7": 1, "D8": 0, "D9": 6, "D10": 26},
        **{"D11": 31, "D12": 30, "D13": 29, "A0": 32, "A1": 33, "A2": 34, "A3": 35, "A4": 36, "A5": 37},
    },
    cycle_counter="DWT CYCCNT, completed to 64 bits by TIM2",
    link="USART6, 115200 baud: D1 (PC6) sends, D0 (PC7) receives, 3.3 V; needs a USB adapter",
    prefill_pin="D7 (PA1)",
    decode_pin="D8 (PA0)",
    supplies=("USB micro-B, 5 V", "jack, 7.5 to 12 V"),
    current="no jumper: in the USB cable, or in the 3.3 V rail with its regulator taken off",
    sources={
        "flash": f"{CHIP}: FLASH_BASE, FLASH_END; speed: 16 bytes in every 6 cycles at 5 wait states (RM0090, 3.5.1)",
        "ram": f"{CHIP}: SRAM1 112 KB and SRAM2 16 KB in a row; speed: a word in a cycle",
        "more_ram": f"{CHIP}: CCMDATARAM_BASE; on after a reset: RM0090, 7.3.10",
        "clock_hz": "RM0090, 3.5.1 and 7.2.3; ChibiOS os/hal/ports/STM32/STM32F4xx/hal_lld_type1.h; the crystal: "
        f"{MICROPYTHON}/mpconfigboard.h; revision A, without prefetch and caches: ES0182 and ChibiOS hal_lld.c",
        "pins": f"{MICROPYTHON}/pins.csv",
        "link": f"{MICROPYTHON}/mpconfigboard.h: UART6 at C6 and C7",
        "machine": "qemu/qemu hw/arm/stm32f405_soc.c; both 7.2 and 10.0 run",
        "programming": "AN2606 (rom_id); its UART bootloader listens on pins that no header has. OpenOCD's own scripts",
        "supplies": "the board's page, from memory, not confirmed",
        "current": "the board's page, from memory, not confirmed",
    },
    promised=False,
    checked="QEMU's STM32F405, whose clocks never become ready",
)
