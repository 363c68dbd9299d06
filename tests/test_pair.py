"""Halves of work that two cores do at once: neither writes what the other reads or writes, in the kernels as compiled.

Every access of each half is seen, so that this needs no luck with two threads. That the halves give the same bits in
other orders, and when one is done twice, test_ops_bfp.py asks of the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import unicorn
from cortex import M0
from kernels import CortexRunner
from test_ops_bfp import CALLS, CASES, LENGTHS, PAIR, WIDE_PAIR
from unicorn import arm_const

from firmware_tools import ops


class Accesses:
    """Which bytes each half reads and writes outside its own stack, while a runner runs."""

    def __init__(self, runner: CortexRunner) -> None:
        self._seen: tuple[set[tuple[bool, int, int]], ...] = (set(), set())  # of each half: written?, address, size
        self.shared = 0  # how often two halves were begun
        self._half, self._stack = -1, 0
        self._marker = runner.cortex.variables["pair_half"]
        self._machine = runner.cortex.machine
        self._hook = self._machine.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._access)

    def _access(self, core: unicorn.Uc, kind: int, address: int, size: int, value: int, _user: object) -> None:
        writes = kind == unicorn.UC_MEM_WRITE
        if address == self._marker:
            if writes:
                self._half = value if value in (0, 1) else -1
                self._stack = core.reg_read(arm_const.UC_ARM_REG_SP)
                self.shared += value == 0
            return
        if self._half < 0 or 0 < self._stack - address < 1 << 12:  # each core has a stack of its own
            return
        self._seen[self._half].add((writes, address, size))

    def _bytes(self, half: int, written: bool) -> set[int]:
        return {at + i for kind, at, size in self._seen[half] if kind == written for i in range(size)}

    def races(self) -> Sequence[int]:
        """Addresses that one half wrote and the other wrote or read; ends the watch."""
        self._machine.hook_del(self._hook)
        first, second = self._bytes(0, True), self._bytes(1, True)
        return sorted(first & (second | self._bytes(1, False)) | second & self._bytes(0, False))


@pytest.mark.parametrize("features", [PAIR, WIDE_PAIR], ids=["pair", "wide pair"])
def test_halves_share_nothing_that_one_writes(features: frozenset[str], tmp_path: Path) -> None:
    runner = CortexRunner(M0, features, CALLS, LENGTHS, tmp_path)
    shared: dict[str, int] = {}
    for i, case in enumerate(CASES):
        if not ops.load(case.call.op).kernel(case.call, features).endswith("_pair"):
            continue
        for token, position, inputs in case.steps[:2] + case.steps[-1:]:
            accesses = Accesses(runner)
            runner.run(i, inputs, token, position)
            assert not accesses.races(), f"{case.name} at position {position}"
            shared[case.call.op] = shared.get(case.call.op, 0) + accesses.shared
    assert {op for op, times in shared.items() if times} == {"fully_connected_bfp", "attention_bfp"}


def test_a_race_would_be_seen(tmp_path: Path) -> None:
    """The same eyes on work whose halves both write one word, and of which one reads what the other writes."""
    source = tmp_path / "race.c"
    source.write_text(
        '#include "pair.h"\nstatic int counts[2];\n'
        "static void work(void *at, unsigned half) { *(volatile int *)at = counts[1 - half] + ++counts[half]; }\n"
        "int raced;\nvoid call_0(void) { edge_pair(work, &raced); }\n",
        encoding="utf-8",
    )
    runner = CortexRunner(M0, PAIR, (), (), tmp_path, more=[source])
    accesses = Accesses(runner)
    runner.cortex.call("call_0")
    assert accesses.shared == 1
    assert len(accesses.races()) == 12
