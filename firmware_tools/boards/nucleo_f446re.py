"""nucleo-f446re: ST's NUCLEO-F446RE, with an STM32F446 at 180 MHz, for which the core's voltage is in over-drive."""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

CHIBIOS = "ChibiOS os/hal/boards/ST_NUCLEO64_F446RE/board.h"
CHIP = "ST's stm32f446xx.h (CMSIS device header); RM0390"

BOARD = Board(
    name="nucleo-f446re",
    description="NUCLEO-F446RE: STM32F446, Cortex-M4F, 180 MHz, 512 KB flash, 128 KB RAM",
    core="Cortex-M4F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m4+vfp4d16sp",
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x08000000, 512 << 10, 480_000_000),
    ram=Memory(0x20000000, 128 << 10, 720_000_000),
    stack_bytes=8 << 10,
    clock="seconds",
    clock_hz=180_000_000,
    options=frozenset({"float-cache"}),
    flashers=("stlink-volume", "pyocd", "openocd", "stm32-uart"),
    programming=Programming(
        volumes=("NODE_F446RE", "NOD_F446RE"),
        mbed_codes=("0777",),
        rom_id=0x421,
        pyocd="stm32f446retx",
        openocd=("board/st_nucleo_f4.cfg",),
    ),
    usb=(Usb(0x0483, 0x374B, "probe"),),
    pins={
        "LED": 5,
        **{"D2": 10, "D3": 19, "D4": 21, "D5": 20, "D6": 26, "D7": 8, "D8": 9, "D9": 39, "D10": 22, "D11": 7},
        **{"D12": 6, "D13": 5, "D14": 25, "D15": 24, "A0": 0, "A1": 1, "A2": 4, "A3": 16, "A4": 33, "A5": 32},
    },
    cycle_counter="DWT CYCCNT, completed to 64 bits by TIM2",
    link="USART2, 115200 baud, by the ST-LINK's USB port",
    prefill_pin="D7 (PA8)",
    decode_pin="D8 (PA9)",
    supplies=("USB of the ST-LINK, 5 V", "VIN, 7 to 12 V", "E5V, 5 V", "3V3, past the ST-LINK"),
    current="jumper JP6, marked IDD: the chip alone",
    sources={
        "flash": f"{CHIP}: FLASH_BASE, FLASH_END; speed: 16 bytes in every 6 cycles at 5 wait states",
        "ram": f"{CHIP}: SRAM1 112 KB and SRAM2 16 KB in a row; speed: a word in a cycle",
        "clock_hz": "ChibiOS os/hal/ports/STM32/STM32F4xx/hal_lld.c and hal_lld_type1.h; RM0390, 5.1.4 and 6.2.3; "
        f"8 MHz in bypass, from the ST-LINK: {CHIBIOS}",
        "pins": f"{CHIBIOS}: LINE_ARD_..., LINE_LED_GREEN",
        "link": f"{CHIBIOS}: USART2 at PA2 and PA3",
        "usb": "OpenOCD's udev rules: 0483:374b is an ST-LINK/V2-1",
        "programming": "AN2606 (rom_id; its UARTs are not the ST-LINK's: PA9 and PA10 need an adapter); "
        "pyOCD's board_ids.py; OpenOCD's own scripts; volumes from memory",
        "supplies": "UM1724, 6.3",
        "current": "UM1724, 6.5",
    },
    promised=True,
    checked="built; its clock code on an emulated core with simulated registers",
)
