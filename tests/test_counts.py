"""What the kernels cost may not rise unseen: every count is compared with the committed table, op by op."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench import counts
from tests.bench.counts import CASES, Case

ALLOWED = 1.02
NEEDS_QEMU = {"virtual-m55"}


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_no_count_rises(case: Case, request: pytest.FixtureRequest) -> None:
    stories = Path()
    if case.model == "stories260K":
        stories = request.getfixturevalue("shared_data") / "stories260K"
    if case.board in NEEDS_QEMU and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    before = counts.parse(counts.TABLE.read_text(encoding="utf-8"))
    now = dict(counts.rows(case, counts.read(case, stories)))
    known = {what for what in before if what.startswith(f"{case.name}:")}
    assert known == set(now), "the table has other rows: python tests/bench/counts.py --write"
    risen = [f"{what}: {before[what]:,} -> {count:,}" for what, count in now.items() if count > ALLOWED * before[what]]
    assert not risen, "\n".join(["these rose by over 2 %:", *risen])


def test_the_table_can_be_read_back() -> None:
    rows = {"virtual-m4 intent int8: decode at 15, add": 3_149, "x: code bytes": 25_000_000}
    assert counts.parse(counts.table(rows)) == rows


def test_every_case_is_in_the_table() -> None:
    before = counts.parse(counts.TABLE.read_text(encoding="utf-8"))
    assert {what.partition(":")[0] for what in before} == {case.name for case in CASES}
