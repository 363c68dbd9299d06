"""Every register and field in the boards' C against vendors' facts; register_facts.py says how C names them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import register_facts as facts

from firmware_tools import boards

BOARDS = Path(boards.__file__).parent
CHIPS = [name for name in facts.FILES if name != facts.SHARED]


def found(board: str, folder: Path = BOARDS) -> list[str]:
    """What is wrong with a board's C."""
    known = facts.merged([*map(facts.facts, facts.of_board(board)), facts.own()])
    return [*facts.problems(boards.load(board), known, folder), *facts.bare_addresses(boards.load(board), folder)]


@pytest.mark.parametrize("board", facts.silicon())
def test_every_register_and_field_is_where_the_vendor_says(board: str) -> None:
    assert found(board) == []


@pytest.mark.parametrize("board", facts.silicon())
def test_one_file_speaks_of_a_board(board: str) -> None:
    assert len(facts.of_board(board)) == 2, "one of its chip, and that of the cores"


@pytest.mark.parametrize("name", facts.FILES)
def test_facts_have_a_source_and_are_said_once(name: str) -> None:
    content = facts.load(name)
    assert content["source"].startswith("https://")
    assert all(board in facts.silicon() for board in content.get("boards", ()))
    tables = [content[table] for table in ("registers", "fields", "numbers") if table in content]
    entries = [item for table in tables for item in table.items()]
    assert all(entry["is"] for _, entry in entries)
    everything = [macro for macro, _ in entries] + sorted(facts.own().names)
    everything += [] if name == facts.SHARED else sorted(facts.facts(facts.SHARED).names)
    assert len(everything) == len(set(everything))


def test_second_stage_has_the_vendors_numbers() -> None:
    """Assembly, which no C includes: every number of it that has a name."""
    text = (BOARDS / "rp2040_boot2.S").read_text(encoding="utf-8")
    numbers = {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (\w+)", text, re.MULTILINE)}
    known = facts.load("rp2040")["boot2"]
    assert numbers == {name: entry["value"] for name, entry in known.items()}
    assert all(entry["is"] for entry in known.values())


def test_no_fact_is_left_over() -> None:
    used = {name: frozenset(facts.macros(boards.load(name), BOARDS)) for name in facts.silicon()}
    for chip in CHIPS:
        assert facts.facts(chip).names <= frozenset().union(*(used[name] for name in facts.facts(chip).boards)), chip
    for shared in (facts.facts(facts.SHARED), facts.own()):
        assert shared.names <= frozenset().union(*used.values())


# --- the test sees what it looks for

CHANGES = {
    "an address": (r"(UARTE0_BAUDRATE REGISTER\(0x400025)24u", r"\g<1>28u", "UARTE0_BAUDRATE is 0x40002528"),
    "a distance": (r"(TIMER_CC\(timer, n\) .*\(n\) \* )4u", r"\g<1>8u", "TIMER_CC(0, 3) is 0x40008558"),
    "a field": (r"(ENDRX_STARTRX \(1u << )5\)", r"\g<1>6)", "UARTE0_SHORTS_ENDRX_STARTRX is 0x40"),
    "a value": (r"(ENABLE_ENABLED \()8u", r"\g<1>4u", "UARTE0_ENABLE_ENABLE_ENABLED is 0x4;"),
    "a number": (r"(UARTE0_IRQ )2u", r"\g<1>3u", "UARTE0_IRQ is 0x3"),
    "a register that is none": (r"(POWER_DCDCEN )REGISTER\((.*?)\)", r"\1\2", "POWER_DCDCEN is no register"),
    "no constant": (r"(UARTE0_IRQ )2u", r"\1irq_of_uart", "UARTE0_IRQ is no constant"),
    "an unknown register": (r"#define UARTE0_IRQ", "#define X_Y REGISTER(0u)\n\\g<0>", "no facts know X_Y"),
    "an unknown function": (r"#define UARTE0_IRQ", "#define X_Y(n) ((n) << 3)\n\\g<0>", "no facts know X_Y"),
    "a bare address": (r"#endif\s*$", "static inline int on(void) { return *(int *)0x40000578; }\n#endif", "bare"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_is_wrong_is_found(change: str, tmp_path: Path) -> None:
    folder = tmp_path / BOARDS.name
    shutil.copytree(BOARDS, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    pattern, replacement, expected = CHANGES[change]
    header = folder / "nrf52840.h"
    changed, count = re.subn(pattern, replacement, header.read_text(encoding="utf-8"))
    assert count == 1
    header.write_text(changed, encoding="utf-8")
    wrong = found("nrf52840-dk", folder)
    assert wrong and expected in wrong[0]
    assert {re.sub(r":\d+: .*", "", line) for line in wrong} == {"nrf52840.h"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(0x40000000u + (1) * 0x1000u)", 0x40001000),
        ("~0u << 4", 0xFFFFFFF0),
        ("((uint32_t)(3) << 2 | 1UL)", 13),
        ("(33) / 32u * 4u", 4),
        ("-1", 0xFFFFFFFF),
        ("sizeof(int)", None),
        ('"text"', None),
        ("do { x = 1; } while (0)", None),
    ],
)
def test_constants_of_c(expression: str, value: int | None) -> None:
    assert facts.constant(expression) == value
