"""Clock trees, limits and reset values of the STM32s that we have boards of, from ST's reference manuals and headers.

RM0090 (F405), RM0390 (F446), RM0351 (L475), RM0432 (L4R5), RM0433 (H743); limits also as ChibiOS has them in
os/hal/ports/STM32/STM32*/hal_lld*.h.
"""

from __future__ import annotations

from collections.abc import Callable

from stm32_chip import MHZ, Chip, Family, Rule, Tree

HCLK = {**dict.fromkeys(range(8), 1), 8: 2, 9: 4, 10: 8, 11: 16, 12: 64, 13: 128, 14: 256, 15: 512}
PCLK = {**dict.fromkeys(range(4), 1), 4: 2, 5: 4, 6: 8, 7: 16}


def ready(register: int, place: int) -> Callable[[Chip], bool]:
    return lambda chip: bool(chip.bits(register, place, 1))


def always(_chip: Chip) -> bool:
    return True


def too_fast(name: str, value: float, most: float) -> list[str]:
    return [f"{name} is {value / MHZ:g} MHz, more than {most / MHZ:g}"] if value > most * 1.000001 else []


def outside(name: str, value: float, least: float, most: float) -> list[str]:
    return (
        [f"{name} is {value / MHZ:g} MHz, not in {least / MHZ:g} to {most / MHZ:g}"]
        if not least <= value <= most
        else []
    )


# --- F4

F4_RCC, F4_PWR, F4_FLASH = 0x40023800, 0x40007000, 0x40023C00


def f4(hse_hz: int, has_over_drive: bool, uart: int, uart_gate: tuple[int, int], idcode: int) -> Family:
    cr, pllcfgr, cfgr = F4_RCC, F4_RCC + 4, F4_RCC + 8

    def pll(chip: Chip) -> tuple[float, float, float]:
        source = hse_hz if chip.bits(pllcfgr, 22, 1) else 16 * MHZ
        entering = source / max(1, chip.bits(pllcfgr, 0, 6))
        vco = entering * chip.bits(pllcfgr, 6, 9)
        return entering, vco, vco / (2 * chip.bits(pllcfgr, 16, 2) + 2)

    def tree(chip: Chip) -> Tree:
        system = (16 * MHZ, hse_hz, pll(chip)[2])[chip.bits(cfgr, 2, 2)]
        bus = system / HCLK[chip.bits(cfgr, 4, 4)]
        first, second = PCLK[chip.bits(cfgr, 10, 3)], PCLK[chip.bits(cfgr, 13, 3)]
        return Tree(bus, bus, bus / first, bus / second, bus if first == 1 else 2 * bus / first)

    def limits(chip: Chip) -> list[str]:
        now = tree(chip)
        over_drive = has_over_drive and chip.bits(F4_PWR + 4, 17, 1)
        scale_1 = chip.bits(F4_PWR, 14, 2) == 3 if has_over_drive else chip.bits(F4_PWR, 14, 1) == 1
        found = too_fast("the core", now.cpu, 180 * MHZ if over_drive else 168 * MHZ if scale_1 else 144 * MHZ)
        found += too_fast("flash", now.bus, 30 * MHZ * (chip.bits(F4_FLASH, 0, 4) + 1))
        found += too_fast("APB1", now.apb1, (45 if over_drive else 42) * MHZ)
        found += too_fast("APB2", now.apb2, (90 if over_drive else 84) * MHZ)
        if chip.bits(cr, 24, 1):
            entering, vco, _out = pll(chip)
            found += outside("what enters the PLL", entering, 0.95 * MHZ, 2.1 * MHZ)
            found += outside("the PLL's oscillator", vco, 192 * MHZ, 432 * MHZ)
        return found

    def source_ready(chip: Chip) -> bool:
        return bool(chip.bits(cr, 17 if chip.bits(pllcfgr, 22, 1) else 1, 1))

    pll_runs = ready(cr, 24)
    rules = [
        Rule("HSI", cr, 1 << 1, ready(cr, 0)),
        Rule("HSE", cr, 1 << 17, ready(cr, 16)),
        Rule("PLL", cr, 1 << 25, lambda chip: pll_runs(chip) and source_ready(chip)),
        Rule("VOS", F4_PWR + 4, 1 << 14, pll_runs),
    ]
    if has_over_drive:
        rules += [
            Rule("OD", F4_PWR + 4, 1 << 16, ready(F4_PWR, 16)),
            Rule(
                "ODSW",
                F4_PWR + 4,
                1 << 17,
                lambda chip: bool(chip.bits(F4_PWR, 17, 1) and chip.bits(F4_PWR + 4, 16, 1)),
            ),
        ]
    apb1 = F4_RCC + 0x40

    def baud(chip: Chip) -> float:
        now = tree(chip)
        return (now.apb2 if uart >= 0x40010000 else now.apb1) / max(1, chip.bits(uart + 8, 0, 16))

    return Family(
        reset={
            cr: 0x83,
            pllcfgr: 0x24003010,
            F4_PWR: 0xC000 if has_over_drive else 0x4000,
            F4_RCC + 0x30: 0x00100000,
            0x40020000: 0xA8000000,
            0x40020400: 0x00000280,
        },
        rules=tuple(rules),
        tree=tree,
        limits=limits,
        cfgr=cfgr,
        sws=2,
        sources={0: ready(cr, 1), 1: ready(cr, 17), 2: ready(cr, 25)},
        acr=F4_FLASH,
        frozen=((pllcfgr, 0xFFFFFFFF, pll_runs), (F4_PWR, 3 << 14, pll_runs), (cr, 1 << 18, ready(cr, 16))),
        gates=(
            *((0x40020000 + 0x400 * port, 0x400203FF + 0x400 * port, F4_RCC + 0x30, port) for port in range(8)),
            (0x40000000, 0x400003FF, apb1, 0),
            (0x40000C00, 0x40000FFF, apb1, 3),
            (F4_PWR, F4_PWR + 0x3FF, apb1, 28),
            (uart, uart + 0x3FF, *uart_gate),
        ),
        idcode=(0xE0042000, idcode),
        gpio=0x40020000,
        uart=uart,
        fifo=0,
        old=True,
        baud=baud,
    )


# --- L4

L4_RCC, L4_PWR, L4_FLASH = 0x40021000, 0x40007000, 0x40022000


def l4(boost: bool, uart: int, low_power: bool, fifo: int, uart_gate: tuple[int, int], idcode: int) -> Family:
    cr, cfgr, pllcfgr = L4_RCC, L4_RCC + 8, L4_RCC + 0xC
    step = 20 * MHZ if boost else 16 * MHZ

    def pll(chip: Chip) -> tuple[float, float, float]:
        source = {0: 0, 1: 4 * MHZ, 2: 16 * MHZ, 3: 0}[chip.bits(pllcfgr, 0, 2)]
        entering = source / (chip.bits(pllcfgr, 4, 4 if boost else 3) + 1)
        vco = entering * chip.bits(pllcfgr, 8, 7)
        return entering, vco, vco / (2 * chip.bits(pllcfgr, 25, 2) + 2) if chip.bits(pllcfgr, 24, 1) else 0

    def tree(chip: Chip) -> Tree:
        system = (4 * MHZ, 16 * MHZ, 0, pll(chip)[2])[chip.bits(cfgr, 2, 2)]
        bus = system / HCLK[chip.bits(cfgr, 4, 4)]
        first, second = PCLK[chip.bits(cfgr, 8, 3)], PCLK[chip.bits(cfgr, 11, 3)]
        return Tree(bus, bus, bus / first, bus / second, bus if first == 1 else 2 * bus / first)

    def limits(chip: Chip) -> list[str]:
        now = tree(chip)
        boosted = boost and not chip.bits(L4_PWR + 0x80, 8, 1)
        found = too_fast("the core", now.cpu, 120 * MHZ if boosted else 80 * MHZ)
        found += too_fast("flash", now.bus, step * (chip.bits(L4_FLASH, 0, 3) + 1))
        if chip.bits(L4_PWR, 9, 2) != 1:
            found.append("the core's voltage is not that of range 1")
        if chip.bits(cr, 24, 1):
            entering, vco, _out = pll(chip)
            found += outside("what enters the PLL", entering, 2.66 * MHZ, 16 * MHZ)
            found += outside("the PLL's oscillator", vco, 64 * MHZ, 344 * MHZ)
        if chip.bits(cfgr, 0, 2) == 3 and now.cpu > 80 * MHZ:  # RM0432, 5.1.8: half of it for the first microsecond
            since = chip.since.setdefault("full", chip.seconds)
            if "half" not in chip.since or since - chip.since["half"] < 1e-6:
                found.append("the core was above 80 MHz less than 1 us after the switch to the PLL")
        elif chip.bits(cfgr, 2, 2) == 3:
            chip.since.setdefault("half", chip.seconds)
        return found

    def source_ready(chip: Chip) -> bool:
        return bool(chip.bits(cr, {1: 1, 2: 10}.get(chip.bits(pllcfgr, 0, 2), 17), 1))

    def baud(chip: Chip) -> float:
        now = tree(chip)
        clock = now.apb2 if uart >= 0x40010000 else now.apb1
        assert chip.bits(L4_RCC + 0x88, 0, 12) == 0, "another clock was chosen for a UART"
        return (256 if low_power else 1) * clock / max(1, chip.bits(uart + 0xC, 0, 20 if low_power else 16))

    apb1 = L4_RCC + 0x58
    gates = [
        *((0x48000000 + 0x400 * port, 0x480003FF + 0x400 * port, L4_RCC + 0x4C, port) for port in range(9)),
        (0x40000000, 0x400003FF, apb1, 0),
        (0x40000C00, 0x40000FFF, apb1, 3),
        (L4_PWR, L4_PWR + 0x3FF, apb1, 28),
        (uart, uart + 0x3FF, *uart_gate),
    ]
    return Family(
        reset={cr: 0x63, pllcfgr: 0x1000, L4_PWR: 0x200, L4_PWR + 0x80: 0x100 if boost else 0, L4_FLASH: 0x600},
        rules=(
            Rule("MSI", cr, 1 << 1, ready(cr, 0)),
            Rule("HSI", cr, 1 << 10, ready(cr, 8)),
            Rule("PLL", cr, 1 << 25, lambda chip: bool(chip.bits(cr, 24, 1)) and source_ready(chip)),
            Rule("VOS", L4_PWR + 0x14, 1 << 10, lambda chip: chip.slow.get("VOS changes") == 1),
        ),
        tree=tree,
        limits=limits,
        cfgr=cfgr,
        sws=2,
        sources={0: ready(cr, 1), 1: ready(cr, 10), 2: ready(cr, 17), 3: ready(cr, 25)},
        acr=L4_FLASH,
        frozen=((pllcfgr, 0xFFFFFFFF, ready(cr, 24)),),
        gates=tuple(gates),
        idcode=(0xE0042000, idcode),
        gpio=0x48000000,
        uart=uart,
        fifo=fifo,
        old=False,
        baud=baud,
    )


# --- H7

H7_RCC, H7_PWR, H7_FLASH = 0x58024400, 0x58024800, 0x52002000


def h7(hse_hz: int, uart: int, uart_gate: tuple[int, int], idcode: int) -> Family:
    cr, cfgr = H7_RCC, H7_RCC + 0x10
    sel, pllcfgr, divr = H7_RCC + 0x28, H7_RCC + 0x2C, H7_RCC + 0x30
    waits = {1: (70, 140, 210, 225), 2: (55, 110, 165, 225), 3: (45, 90, 135, 180, 225)}  # by scale, at so many states
    strobes = {1: (70, 185, 285), 2: (55, 165, 225), 3: (45, 135, 225)}  # RM0433, table 17: by WRHIGHFREQ

    def pll(chip: Chip) -> tuple[float, float, float]:
        source = (64 * MHZ, 4 * MHZ, hse_hz, 0)[chip.bits(sel, 0, 2)]
        entering = source / max(1, chip.bits(sel, 4, 6))
        vco = entering * (chip.bits(divr, 0, 9) + 1)
        return entering, vco, vco / (chip.bits(divr, 9, 7) + 1) if chip.bits(pllcfgr, 16, 1) else 0

    def scale(chip: Chip) -> int:
        return {3: 1, 2: 2, 1: 3, 0: 3}[chip.bits(H7_PWR + 0x18, 14, 2)]

    def tree(chip: Chip) -> Tree:
        system = (64 * MHZ / 2 ** chip.bits(cr, 3, 2), 4 * MHZ, hse_hz, pll(chip)[2])[chip.bits(cfgr, 3, 3)]
        cpu = system / HCLK[chip.bits(H7_RCC + 0x18, 8, 4)]
        bus = cpu / HCLK[chip.bits(H7_RCC + 0x18, 0, 4)]
        first, second = PCLK[chip.bits(H7_RCC + 0x1C, 4, 3)], PCLK[chip.bits(H7_RCC + 0x1C, 8, 3)]
        return Tree(cpu, bus, bus / first, bus / second, bus if first <= 1 else 2 * bus / first)

    def limits(chip: Chip) -> list[str]:
        now, voltage = tree(chip), scale(chip)
        most = {1: 400, 2: 300, 3: 200}[voltage] * MHZ
        states = chip.bits(H7_FLASH, 0, 4)
        found = too_fast("the core", now.cpu, most) + too_fast("the buses", now.bus, most / 2)
        found += too_fast("flash", now.bus, waits[voltage][min(states, len(waits[voltage]) - 1)] * MHZ)
        found += too_fast("flash's strobes", now.bus, strobes[voltage][min(2, chip.bits(H7_FLASH, 4, 2))] * MHZ)
        buses = (("APB3", 4, 0x18), ("APB1", 4, 0x1C), ("APB2", 8, 0x1C), ("APB4", 4, 0x20))
        for name, place, register in buses if chip.bits(cfgr, 3, 3) else ():  # after a reset ST itself exceeds them
            found += too_fast(name, now.bus / PCLK[chip.bits(H7_RCC + register, place, 3)], most / 4)
        if chip.bits(cr, 24, 1):
            entering, vco, _out = pll(chip)
            ranges = ((1, 2), (2, 4), (4, 8), (8, 16))[chip.bits(pllcfgr, 2, 2)]
            found += outside("what enters the PLL", entering, ranges[0] * MHZ, ranges[1] * MHZ)
            wide = chip.bits(pllcfgr, 1, 1) == 0
            found += outside("the PLL's oscillator", vco, *((192 * MHZ, 836 * MHZ) if wide else (150 * MHZ, 420 * MHZ)))
        if voltage != 3 and not chip.bits(H7_PWR + 4, 13, 1):
            found.append("the voltage was changed before the supply was chosen")
        if chip.bits(H7_PWR + 0xC, 0, 3) not in (6, 2):
            found.append("the supply is not the chip's linear regulator")
        return found

    def source_ready(chip: Chip) -> bool:
        return bool(chip.bits(cr, {0: 2, 1: 8, 2: 17}.get(chip.bits(sel, 0, 2), 31), 1))

    def baud(chip: Chip) -> float:
        assert chip.bits(H7_RCC + 0x54, 0, 3) == 0, "another clock was chosen for USART3"
        return tree(chip).apb1 / max(1, chip.bits(uart + 0xC, 0, 16))

    runs = ready(cr, 24)
    return Family(
        reset={
            cr: 0x25,
            sel: 0x02020200,
            pllcfgr: 0x01FF0000,
            divr: 0x01010280,
            H7_PWR + 0xC: 0x6,
            H7_PWR + 0x18: 0x4000,
            H7_FLASH: 0x37,
        },
        rules=(
            Rule("HSI", cr, 1 << 2, ready(cr, 0)),
            Rule("HSE", cr, 1 << 17, ready(cr, 16)),
            Rule("PLL", cr, 1 << 25, lambda chip: runs(chip) and source_ready(chip)),
            Rule("supply", H7_PWR + 4, 1 << 13, lambda chip: chip.bits(H7_PWR + 0xC, 0, 3) == 2),
            Rule("VOS", H7_PWR + 0x18, 1 << 13, always),
        ),
        tree=tree,
        limits=limits,
        cfgr=cfgr,
        sws=3,
        sources={0: ready(cr, 2), 1: ready(cr, 8), 2: ready(cr, 17), 3: ready(cr, 25)},
        acr=H7_FLASH,
        frozen=((sel, 0xFFFFFFFF, runs), (divr, 0xFFFFFFFF, runs), (pllcfgr, 0x0F, runs), (cr, 1 << 18, ready(cr, 16))),
        gates=(
            *((0x58020000 + 0x400 * port, 0x580203FF + 0x400 * port, H7_RCC + 0xE0, port) for port in range(11)),
            (0x40000000, 0x400003FF, H7_RCC + 0xE8, 0),
            (0x40000C00, 0x40000FFF, H7_RCC + 0xE8, 3),
            (uart, uart + 0x3FF, *uart_gate),
        ),
        idcode=(0x5C001000, idcode),
        gpio=0x58020000,
        uart=uart,
        fifo=16,
        old=False,
        baud=baud,
    )


FAMILIES = {
    "netduinoplus2": f4(25 * MHZ, False, 0x40011400, (F4_RCC + 0x44, 5), 0x10076413),
    "nucleo-f446re": f4(8 * MHZ, True, 0x40004400, (F4_RCC + 0x40, 17), 0x10006421),
    "nucleo-l4r5zi": l4(True, 0x40008000, True, 8, (L4_RCC + 0x5C, 0), 0x10036470),
    "b-l475e-iot01a": l4(False, 0x40013800, False, 0, (L4_RCC + 0x60, 14), 0x10076415),
    "nucleo-h743zi": h7(8 * MHZ, 0x40004800, (H7_RCC + 0xE8, 18), 0x20036450),
}
