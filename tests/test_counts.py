"""What the kernels cost may not rise unseen: every count is compared with the committed table, op by op."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firmware_tools import boards
from tests.bench import counts
from tests.bench.counts import CASES, PLAIN, Case

ALLOWED = 1.02


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_no_count_rises(case: Case, request: pytest.FixtureRequest) -> None:
    stories = Path()
    if case.model == "stories260K":
        stories = request.getfixturevalue("shared_data") / "stories260K"
    if boards.load(case.board).emulators[0] == "qemu" and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    if case.toolchain == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    compare(case.name, dict(counts.rows(case, counts.read(case, stories))))


@pytest.mark.parametrize("model", PLAIN)
def test_no_count_of_plain_models_rises(model: str, shared_data: Path) -> None:
    compare(f"{counts.PLAIN_BOARD} {model}", dict(counts.plain_rows(shared_data / "tflite" / f"{model}.tflite")))


def compare(name: str, now: counts.Rows) -> None:
    """Fails where the table has other rows of this name, or a count of them rose, and says which."""
    before = counts.parse(counts.TABLE.read_text(encoding="utf-8"))
    known = {what for what in before if what.startswith(f"{name}:")}
    assert known == set(now), "the table has other rows: python tests/bench/counts.py --write"
    risen = [f"{what}: {before[what]:,} -> {count:,}" for what, count in now.items() if count > ALLOWED * before[what]]
    assert not risen, "\n".join(["these rose by over 2 %:", *risen])


def test_the_table_can_be_read_back() -> None:
    rows = {"virtual-m4 intent int8: decode at 15, add": 3_149, "x: code bytes": 25_000_000}
    assert counts.parse(counts.table(rows)) == rows


def test_every_case_is_in_the_table() -> None:
    before = counts.parse(counts.TABLE.read_text(encoding="utf-8"))
    assert {what.partition(":")[0] for what in before} == {
        *(case.name for case in CASES),
        *(f"{counts.PLAIN_BOARD} {model}" for model in PLAIN),
    }
