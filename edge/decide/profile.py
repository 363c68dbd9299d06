"""A profile for people: a table by op and by layer, and a picture of every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge.drawing import Drawing, colours
from edge.measure.record import Part, Profile
from edge.terminal import one_line

WIDTH, LEFT, BAR, GAP, TOP = 960.0, 90.0, 22.0, 8.0, 64.0


def text(profile: Profile) -> str:
    """Two tables: instructions and weight bytes with their shares, by op and by layer; the largest op first."""
    heading = f"Profile of {_what(profile)} (instructions; weight bytes read from flash)"
    by_op = sorted(_sums(profile.parts, lambda part: part.op), key=lambda row: -row[2])
    by_layer = _sums(profile.parts, lambda part: part.layer)
    total = ("total", len(profile.parts), *_totals(profile.parts))
    lines = [heading, *_lines(by_op, total), "", *_lines([*by_layer, total], total)]
    if profile.predicted is not None:
        error = 100 * (profile.predicted / total[2] - 1)
        lines.append(f"  predicted from the graph alone: {profile.predicted:,} instructions ({error:+.1f} %)")
    return "\n".join(lines) + "\n"


def _what(profile: Profile) -> str:
    return "an inference" if profile.position is None else f"one token at position {profile.position}"


def svg(profile: Profile) -> str:
    """A bar for each layer, in it the calls as wide as their instructions; below it the bytes of weights they read."""
    layers = list(dict.fromkeys(part.layer for part in profile.parts))
    of_op = colours(part.op for part in profile.parts)
    widest = max(sum(part.instructions for part in profile.parts if part.layer == layer) for layer in layers)
    heaviest = max(sum(part.weight_bytes for part in profile.parts if part.layer == layer) for layer in layers)
    instructions, weight_bytes = _totals(profile.parts)
    title = f"{instructions:,} instructions and {weight_bytes:,} weight bytes for {_what(profile)}"
    drawing = Drawing(WIDTH, TOP + len(layers) * (BAR + GAP + 6) + 10, title)
    drawing.text(10, 20, title)
    drawing.legend(10, 44, list(of_op.items()), step=(WIDTH - 20) / max(len(of_op), 1))
    for row, layer in enumerate(layers):
        y = TOP + row * (BAR + GAP + 6)
        drawing.text(LEFT - 8, y + 15, layer, anchor="end")
        x = x_bytes = LEFT
        for part in (part for part in profile.parts if part.layer == layer):
            about = f"{part.op} {part.shape}: {part.instructions:,} instructions, {part.weight_bytes:,} weight bytes"
            width = (WIDTH - LEFT - 10) * part.instructions / max(widest, 1)
            width_bytes = (WIDTH - LEFT - 10) * part.weight_bytes / max(heaviest, 1)
            drawing.rectangle(x, y, width, BAR, of_op[part.op], about)
            drawing.rectangle(x_bytes, y + BAR + 1, width_bytes, 4, of_op[part.op], about)
            x, x_bytes = x + width, x_bytes + width_bytes
    return drawing.svg()


def _totals(parts: Iterable[Part]) -> tuple[int, int]:
    parts = list(parts)
    return sum(part.instructions for part in parts), sum(part.weight_bytes for part in parts)


def _sums(parts: Iterable[Part], key: Callable[[Part], str]) -> list[tuple[str, int, int, int]]:
    """(name, calls, instructions, weight bytes) for each value of key, in the order of their first use."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return [(name, len(group), *_totals(group)) for name, group in groups.items()]


def _lines(rows: Iterable[tuple[str, int, int, int]], total: tuple[str, int, int, int]) -> Iterable[str]:
    yield f"  {'':20} {'calls':>5} {'instructions':>12} {'share':>6} {'weight bytes':>12} {'share':>6}"
    for name, calls, instructions, weight_bytes in rows:
        shares = [_share(instructions, total[2]), _share(weight_bytes, total[3])]
        yield f"  {one_line(name):20} {calls:5} {instructions:12,} {shares[0]} {weight_bytes:12,} {shares[1]}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:5.1f}%" if whole else "     –"
