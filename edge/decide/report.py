"""Runs beside each other, from their records alone.

Runs on different clocks never share a table: a count of instructions and a time cannot be compared. What was not
measured is said to be so. Everything in a record is treated as text from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from edge.measure import circumstances
from edge.measure import record as records
from edge.measure.record import Accuracy, Record
from edge.terminal import one_line

ABSENT = "–"
INVALID = "Invalid (something slowed the computer down: its times stand for nothing)"
NO_ENERGY = "Energy was not measured."
# (clock, emulated) of a run -> heading of its table
HEADINGS = {
    ("instructions", True): "Instructions (EMULATED: counted, not a time)",
    ("instructions", False): "Instructions",
    ("seconds", True): "Seconds (EMULATED: not those of any hardware)",
    ("seconds", False): "Seconds (measured)",
}
# heading, and the cell of a run; the first five columns name the run
COLUMNS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("model", lambda run: one_line(f"{run.model.name} ({run.model.quantization or 'unknown weights'})")),
    ("target", lambda run: one_line(run.target)),
    ("computer", lambda run: _computer(run)),
    ("context", lambda run: ABSENT if run.context is None else str(run.context)),
    ("toolchain", lambda run: one_line(run.image.toolchain or ABSENT)),
    ("inference", lambda run: _amount(run.clock, run.inference.median)),
    ("decode / token", lambda run: _decode(run)),
    ("prefill / token", lambda run: _amount(run.clock, run.prefill.per_token)),
    ("weights in", lambda run: one_line(_weights_in(run))),
    ("flash", lambda run: _bytes(run, "code", "weight", "vocabulary")),
    ("RAM", lambda run: _bytes(run, "arena", "kv_cache", "stack")),
    ("accuracy", lambda run: accuracy(run.accuracy)),
)


def report(paths: Sequence[Path]) -> list[Record]:
    """The records of the files, verified; of a comparison all of its runs. BadFile for anything else."""
    return [run for path in paths for run in records.read_all(path)]


def tables(runs: Sequence[Record]) -> list[tuple[str, list[list[str]]]]:
    """(heading, rows) for each kind of clock that occurs; the first row holds the columns' names.

    Runs that are invalid are in none of them. What was measured of one model in one image on one target shares a row. A
    column that no run of the table has anything for is left out.
    """
    result = []
    for clock, heading in HEADINGS.items():
        subjects: dict[tuple[object, ...], list[Record]] = {}
        for run in runs:
            if (run.clock, run.emulated) == clock and not run.invalid:
                subjects.setdefault((run.model, run.image, run.target, run.context), []).append(run)
        rows = [_row(same) for same in subjects.values()]
        filled = [at for at in range(len(COLUMNS)) if any(row[at] != ABSENT for row in rows)]
        if rows:
            names = [COLUMNS[at][0] for at in filled]
            result.append((heading, [names, *([row[at] for at in filled] for row in rows)]))
    return result


def invalid(runs: Sequence[Record]) -> list[list[str]]:
    """A row for each invalid run, below the columns' names: which it is, and why; no number of it. [] without any."""
    rows = [
        [*(cell(run) for _, cell in COLUMNS[:3]), "\n".join(one_line(reason.sentence) for reason in run.invalid)]
        for run in runs
        if run.invalid
    ]
    return [[*(name for name, _ in COLUMNS[:3]), "why"], *rows] if rows else []


def _row(runs: Sequence[Record]) -> list[str]:
    """The cells of runs of one subject: a line for each thing that differs between them."""
    row = []
    for _, cell in COLUMNS:
        cells = dict.fromkeys(cell(run) for run in runs)
        row.append("\n".join(text for text in cells if text != ABSENT) or ABSENT)
    return row


def text(runs: Sequence[Record]) -> str:
    """The tables for a terminal, which is narrow: a column for each model, a line for each figure."""
    parts = [f"{heading}\n{_aligned(list(zip(*rows, strict=True)))}" for heading, rows in _all(runs)]
    return "\n\n".join([*parts, *doubts(runs), NO_ENERGY]) + "\n"


def markdown(runs: Sequence[Record]) -> str:
    """The tables as Markdown, which nothing in a record can break out of."""
    parts = ["# Report\n"]
    for heading, rows in _all(runs):
        names, *body = [[_escaped(cell) for cell in row] for row in rows]
        lines = [names, ["---"] * len(names), *body]
        parts.append(f"## {heading}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return "\n".join([*parts, *(f"{_escaped(line)}\n" for line in doubts(runs)), f"{NO_ENERGY}\n"])


def doubts(runs: Sequence[Record]) -> list[str]:
    """A line for each run whose times are valid as far as can be known, which is not far enough."""
    timed = [run for run in runs if run.clock == "seconds" and _is_timed(run) and not run.invalid]
    slow = [f"Of {run.target} did not start: {run.trouble}." for run in timed if run.trouble]
    hot = [f"{run.target} had been {why}." for run in timed if (why := circumstances.doubt(run.before))]
    return list(dict.fromkeys(map(one_line, (*slow, *hot))))


def _is_timed(run: Record) -> bool:
    return any(value is not None for value in (run.decode.median, run.prefill.per_token, run.inference.median))


def _all(runs: Sequence[Record]) -> list[tuple[str, list[list[str]]]]:
    rows = invalid(runs)
    return [*tables(runs), *([(INVALID, rows)] if rows else [])]


def as_json(runs: Sequence[Record]) -> dict[str, Any]:
    """The runs by clock, as their records hold them; those that are invalid by themselves, where there are any."""
    valid = {
        clock: [records.to_json(run) for run in runs if run.clock == clock and not run.invalid]
        for clock in records.CLOCKS
    }
    wrong = [records.to_json(run) for run in runs if run.invalid]
    return {**valid, "invalid": wrong} if wrong else valid


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, whose lines stand below each other, as columns."""
    lines = [line for row in rows for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown and the HTML made of it show as it is."""
    html = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = "".join(f"\\{character}" if character in "\\`*_[]|~" else character for character in html)
    return escaped.replace("\n", "<br>")


def _amount(clock: str, value: float | None) -> str:
    if value is None:
        return ABSENT
    if clock == "instructions":
        return f"{value / 1e6:.3f} M" if value >= 1e6 else f"{value:,.0f}"
    return f"{value * 1e3:.3f} ms"


def _decode(run: Record) -> str:
    where = "" if run.decode.position is None else f" at position {run.decode.position}"
    if run.decode.position is not None and run.decode.tokens and run.decode.tokens > 1:
        where += f"–{run.decode.position + run.decode.tokens - 1}"
    return ABSENT if run.decode.median is None else _amount(run.clock, run.decode.median) + where


def _computer(run: Record) -> str:
    """What another computer than the host is, where it tells."""
    model = run.machine.model if run.machine and run.target != "host" else None
    return one_line(model) if model else ABSENT


def _weights_in(run: Record) -> str:
    """From where a board reads its weights, where that decides its speed: not of an emulated one that has no choice."""
    told = run.memory.weights_in
    return ABSENT if told is None or run.clock == "instructions" and told == "flash" else {"ram": "RAM"}.get(told, told)


def _bytes(run: Record, *parts: str) -> str:
    """The sum of parts of the memory in KB; a lower bound where one is not known. A process has neither."""
    if "arena" in parts:  # RAM
        parts += ("input",) * (run.memory.input_bytes is not None) + ("weight",) * (run.memory.weights_in == "ram")
    known = [size for part in parts if (size := getattr(run.memory, f"{part}_bytes")) is not None]
    if not known or run.machine is not None or run.target == "host":
        return ABSENT
    return ("≥ " if len(known) < len(parts) else "") + f"{sum(known) / 1024:.1f} KB"


def accuracy(accuracy: Accuracy | None) -> str:
    """Every figure that was measured, with the size of its sample."""
    if accuracy is None:
        return ABSENT
    parts = []
    if accuracy.exact_match is not None:
        low, high = accuracy.interval_95 or (0.0, 1.0)
        task = one_line(accuracy.task or "task")
        sample = f"{accuracy.sample_size} of {accuracy.task_size}"
        parts.append(f"{task}: exact match {accuracy.exact_match:.3f} ({low:.3f}–{high:.3f}), {sample}")
    if accuracy.accuracy is not None:
        low, high = accuracy.interval_95 or (0.0, 1.0)
        parts.append(f"accuracy {accuracy.accuracy:.3f} ({low:.3f}–{high:.3f}), {accuracy.classes} classes")
    if accuracy.macro_f1 is not None:
        parts.append(f"macro-F1 {accuracy.macro_f1:.3f}")
    if accuracy.auc is not None:
        parts.append(f"AUC {accuracy.auc:.3f}")
    if accuracy.disagreement is not None:
        parts.append(f"another class than the reference in {accuracy.disagreement:.3g}")
        parts.append(f"largest difference {accuracy.max_difference or 0.0:.3g}")
    if accuracy.sample_size is not None and accuracy.exact_match is None:
        parts.append(f"{accuracy.sample_size} samples")
    if accuracy.perplexity is not None:
        parts.append(f"perplexity {accuracy.perplexity:.3f}")
    if accuracy.bits_per_byte is not None:
        parts.append(f"{accuracy.bits_per_byte:.3f} bits a byte")
    if accuracy.kl is not None:
        parts.append(f"KL {accuracy.kl:.3g}")
    if accuracy.top1 is not None:
        parts.append(f"top-1 {accuracy.top1:.3f}")
    if accuracy.tokens is not None:
        parts.append(f"{accuracy.tokens} tokens")
    return ", ".join(parts) or ABSENT
