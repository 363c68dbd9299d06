"""nucleo-h743zi: ST's NUCLEO-H743ZI and -ZI2, with an STM32H743 at 400 MHz and both caches on. Experimental.

Stack and variables lie in DTCM, 128 KB that the core reads without a cache and without waiting, and so do buffers that
fit; larger ones and weights in RAM lie in the 512 KB of AXI SRAM, which goes through the data cache, as flash does.
ITCM and the SRAMs of the other domains are not used. How fast caches make all this is not known without silicon;
hence no bytes_per_s.
"""

from __future__ import annotations

from firmware_tools.boards import Board, Memory, Programming, Usb

CHIBIOS = "ChibiOS os/hal/boards/ST_NUCLEO144_H743ZI/board.h"
ZEPHYR = "zephyrproject-rtos/zephyr boards/st/nucleo_h743zi"
CHIP = "ST's stm32h743xx.h (CMSIS device header); RM0433"

BOARD = Board(
    name="nucleo-h743zi",
    description="NUCLEO-H743ZI, -ZI2: STM32H743, Cortex-M7F, 400 MHz, 2 MB flash, 640 KB RAM (experimental)",
    core="Cortex-M7F",
    target="thumb-freestanding-eabihf",
    cpu="cortex_m7+fp_armv8d16sp",
    features=frozenset({"dsp", "fpu"}),
    flash=Memory(0x08000000, 2 << 20),
    ram=Memory(0x20000000, 128 << 10, name="DTCM"),
    more_ram=(Memory(0x24000000, 512 << 10, name="AXI SRAM"),),
    stack_bytes=8 << 10,
    clock="seconds",
    clock_hz=400_000_000,
    options=frozenset({"float-cache"}),
    aliases=("nucleo-h743zi2",),
    flashers=("stlink-volume", "pyocd", "openocd"),
    programming=Programming(
        volumes=("NODE_H743ZI", "NOD_H743ZI2", "NOD_H743ZI"),
        mbed_codes=("0813", "0836"),
        rom_id=0x450,
        pyocd="stm32h743xx",
        openocd=("board/st_nucleo_h743zi.cfg",),
    ),
    usb=(Usb(0x0483, 0x374B, "probe"), Usb(0x0483, 0x374E, "probe"), Usb(0x0483, 0x374F, "probe")),
    pins={"LED": 16, "LD1": 16, "LD3": 30, "D3": 77, "D5": 75, "D6": 73, "D9": 63, "D10": 62, "D12": 6, "D13": 5},
    cycle_counter="DWT CYCCNT, completed to 64 bits by TIM2",
    link="USART3, 115200 baud, by the ST-LINK's USB port",
    prefill_pin="D6 (PE9)",
    decode_pin="D5 (PE11)",
    supplies=("USB of the ST-LINK, 5 V", "VIN, 7 to 12 V", "E5V, 5 V", "3V3, past the ST-LINK"),
    current="the jumper marked IDD: the chip alone",
    sources={
        "flash": f"{CHIP}: FLASH_BASE, FLASH_END",
        "ram": f"{CHIP}: D1_DTCMRAM_BASE",
        "more_ram": f"{CHIP}: D1_AXISRAM_BASE",
        "clock_hz": "ChibiOS os/hal/ports/STM32/STM32H7xx/hal_lld.c and hal_lld_type1.h; RM0433, 6.8.4, 8.5, "
        f"table 17; 8 MHz in bypass, from the ST-LINK: {ZEPHYR}/nucleo_h743zi.dts",
        "pins": f"{ZEPHYR}/arduino_r3_connector.dtsi, what is the same on both boards; {CHIBIOS}: LINE_LED1, LINE_LED3",
        "link": f"{ZEPHYR}/nucleo_h743zi.dts: USART3 at PD8 and PD9",
        "usb": "OpenOCD's udev rules: 0483:374b is an ST-LINK/V2-1, 374e and 374f are V3; who has which: from memory",
        "programming": "AN2606 (rom_id); pyOCD's board_ids.py; OpenOCD's own scripts; volumes from memory",
        "supplies": "UM1974 and UM2407, from memory",
        "current": "UM1974 and UM2407, from memory",
    },
    promised=False,
    checked="built; its clock code on an emulated core with simulated registers",
)
