"""b-l475e-iot01a: ST's Discovery kit for IoT nodes, with an STM32L475; it is here since QEMU (9.1 and newer) has it.

QEMU's machine has the chip's clock tree, so that it runs the clock code of the L4 family to its end; it has no timers,
and so nothing that counts ticks.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Machine, Memory, Programming, Usb

ZEPHYR = "zephyrproject-rtos/zephyr boards/st/disco_l475_iot1"
CHIP = "ST's stm32l475xx.h (CMSIS device header); RM0351"

BOARD = Board(
    name="b-l475e-iot01a",
    description="B-L475E-IOT01A: STM32L475, Cortex-M4F, 80 MHz, 1 MB flash, 128 KB RAM",
    core="Cortex-M4F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m4+vfp4d16sp",
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x08000000, 1 << 20, 128_000_000),
    ram=Memory(0x20000000, 96 << 10, 320_000_000, "SRAM1"),
    more_ram=(Memory(0x10000000, 32 << 10, 320_000_000, "SRAM2"),),
    stack_bytes=8 << 10,
    clock="seconds",
    clock_hz=80_000_000,
    emulators=("qemu",),
    machine=Machine(qemu="b-l475e-iot01a", since=(9, 1)),
    options=frozenset({"float-cache"}),
    flashers=("stlink-volume", "pyocd", "openocd"),
    programming=Programming(
        volumes=("DIS_L4IOT",),
        mbed_codes=("0764",),
        rom_id=0x415,
        pyocd="stm32l475xg",
        openocd=("board/st_b-l475e-iot01a.cfg",),
    ),
    usb=(Usb(0x0483, 0x374B, "probe"),),
    pins={
        "LED": 30,
        **{"LD1": 5, "LD2": 30, "D2": 62, "D3": 16, "D4": 3, "D5": 20, "D6": 17, "D7": 4, "D8": 18, "D9": 15},
        **{"D10": 2, "D11": 7, "D12": 6, "D13": 5, "A0": 37, "A1": 36, "A2": 35, "A3": 34, "A4": 33, "A5": 32},
    },
    cycle_counter="DWT CYCCNT, completed to 64 bits by TIM2",
    link="USART1, 115200 baud, by the ST-LINK's USB port",
    prefill_pin="D7 (PA4)",
    decode_pin="D8 (PB2)",
    supplies=("USB of the ST-LINK, 5 V",),
    current="jumper JP5 (IDD): the chip alone",
    sources={
        "flash": f"{CHIP}: FLASH_BASE, FLASH_END; speed: 8 bytes in every 5 cycles at 4 wait states (RM0351, 3.3.3)",
        "ram": f"{CHIP}: SRAM1_BASE, SRAM1_SIZE_MAX; speed: a word in a cycle",
        "more_ram": f"{CHIP}: SRAM2_BASE, SRAM2_SIZE",
        "clock_hz": "RM0351, 3.3.3 and 6.2; ChibiOS os/hal/ports/STM32/STM32L4xx/hal_lld.h",
        "pins": f"{ZEPHYR}/disco_l475_iot1.dts (LEDs), arduino_r3_connector.dtsi",
        "link": f"{ZEPHYR}/disco_l475_iot1.dts: USART1 at PB6 and PB7",
        "usb": "OpenOCD's udev rules: 0483:374b is an ST-LINK/V2-1",
        "machine": "qemu/qemu hw/arm/b-l475e-iot01a.c, hw/misc/stm32l4x5_rcc.c; 10.0 runs",
        "programming": "AN2606 (rom_id); pyOCD's and OpenOCD's own lists; volume and code from memory, not confirmed",
        "supplies": "UM2153, from memory, not confirmed",
        "current": "UM2153, from memory, not confirmed",
    },
    promised=True,
    checked="QEMU's STM32L475",
)
