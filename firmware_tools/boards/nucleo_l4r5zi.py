"""nucleo-l4r5zi: ST's NUCLEO-L4R5ZI, the reference board of MLPerf Tiny, with an STM32L4R5 at 120 MHz (boost).

Its three SRAMs are one stretch of 640 KB: SRAM2, 64 KB, is used by its second address between the others.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

CHIBIOS = "ChibiOS os/hal/boards/ST_NUCLEO144_L4R5ZI/board.h"
ZEPHYR = "zephyrproject-rtos/zephyr boards/st/nucleo_l4r5zi"
CHIP = "ST's stm32l4r5xx.h (CMSIS device header); RM0432"

BOARD = Board(
    name="nucleo-l4r5zi",
    description="NUCLEO-L4R5ZI: STM32L4R5, Cortex-M4F, 120 MHz, 2 MB flash, 640 KB RAM",
    core="Cortex-M4F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m4+vfp4d16sp",
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x08000000, 2 << 20, 160_000_000),
    ram=Memory(0x20000000, 640 << 10, 480_000_000),
    stack_bytes=8 << 10,
    clock="seconds",
    clock_hz=120_000_000,
    options=frozenset({"float-cache"}),
    flashers=("stlink-volume", "pyocd", "openocd"),
    programming=Programming(
        volumes=("NODE_L4R5ZI", "NOD_L4R5ZI"),
        mbed_codes=("0776", "0781"),
        rom_id=0x470,
        pyocd="stm32l4r5zitx",
        openocd=("board/st_nucleo_l4.cfg",),
    ),
    usb=(Usb(0x0483, 0x374B, "probe"),),
    pins={
        "LED": 39,
        **{"LD1": 39, "LD2": 23, "LD3": 30, "D2": 95, "D3": 77, "D4": 94, "D5": 75, "D6": 73, "D7": 93, "D8": 92},
        **{"D9": 63, "D10": 62, "D11": 7, "D12": 6, "D13": 5, "A0": 3, "A1": 32, "A2": 35, "A3": 33},
        **{"A4": 36, "A5": 37},
    },
    cycle_counter="DWT CYCCNT, completed to 64 bits by TIM2",
    link="LPUART1, 115200 baud, by the ST-LINK's USB port",
    prefill_pin="D7 (PF13)",
    decode_pin="D8 (PF12)",
    supplies=("USB of the ST-LINK, 5 V", "VIN, 7 to 12 V", "E5V, 5 V", "3V3, past the ST-LINK"),
    current="jumper JP5, marked IDD: the chip alone",
    sources={
        "flash": f"{CHIP}: FLASH_BASE, FLASH_END; speed: 8 bytes in every 6 cycles at 5 wait states, two banks",
        "ram": f"{CHIP}: SRAM1_BASE, SRAM3_BASE, SRAM2_SIZE; SRAM2's second address: RM0432, 2.4; "
        "speed: a word in a cycle",
        "clock_hz": "ChibiOS os/hal/ports/STM32/STM32L4xx+/hal_lld.h (limits), hal_lld.c; RM0432, 5.1.8; "
        f"no HSE is fitted: {CHIBIOS}; from HSI, M is 4: {ZEPHYR}/nucleo_l4r5zi.dts",
        "pins": f"{ZEPHYR}/arduino_r3_connector.dtsi; {CHIBIOS}: LINE_LED1 to LINE_LED3",
        "link": f"{CHIBIOS}: LPUART1 at PG7 and PG8",
        "usb": "OpenOCD's udev rules: 0483:374b is an ST-LINK/V2-1",
        "programming": "AN2606 (rom_id); pyOCD's board_ids.py; OpenOCD's own scripts; volumes from memory",
        "supplies": "UM2179, from memory",
        "current": "UM2179, from memory",
    },
    promised=True,
    checked="its relative in QEMU, the STM32L475; its clock code on an emulated core with simulated registers",
)
