"""The soak: the same image flashed again and again, and how often that went well.

A flash that fails is counted by its kind, and the next one begins where the board is found then.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from edge import __version__
from edge.run import flash
from edge.run.flash import Done, NotVerified, Plan
from edge.shares import wilson
from firmware_tools import ports
from firmware_tools.errors import UserError
from firmware_tools.flashers import FlashError, Progress
from firmware_tools.ports import Device

SCHEMA = 1
FOUND_S = 10.0  # for the board to be there again before the next flash


@dataclass(frozen=True)
class Attempt:
    """One flash. kind: "" where it went well, else in a word how it failed; message: the error."""

    seconds: float
    steps: tuple[tuple[str, float], ...] = ()
    verified: str = ""
    emulated: bool = False
    kind: str = ""
    message: str = ""


@dataclass
class Soak:
    """Flashes of one image in a row. asked: how many there should be."""

    plan: Plan
    asked: int
    attempts: list[Attempt] = field(default_factory=list)
    interrupted: bool = False

    @property
    def well(self) -> int:
        return sum(not attempt.kind for attempt in self.attempts)

    @property
    def failed(self) -> bool:
        return self.well < len(self.attempts)


def soak(plan: Plan, count: int, progress: Progress) -> Soak:
    """Flashes count times; Ctrl-C ends it early, with what has been found until then."""
    found = Soak(plan, count)
    for number in range(count):

        def told(what: str, done: int, total: int, number: int = number) -> None:
            progress(f"{number + 1} of {count}: {what}", done, total)

        try:
            found.attempts.append(_once(plan, told, first=number == 0))
        except KeyboardInterrupt:
            found.interrupted = True
            break
        if found.attempts[-1].kind:
            progress(f"{number + 1} of {count} failed: {found.attempts[-1].message}", 0, 0)
    return found


def _once(plan: Plan, progress: Progress, first: bool) -> Attempt:
    start = time.monotonic()

    def failed(kind: str, error: UserError) -> Attempt:
        return Attempt(time.monotonic() - start, kind=kind, message=error.message)

    try:
        here = plan if first else dataclasses.replace(plan, device=_now(plan.device))
        done: Done = flash.flash(here, progress)
    except NotVerified as error:
        return failed(error.kind, error)
    except FlashError as error:
        if error.interrupted:
            raise KeyboardInterrupt from None
        return failed(f"while flashing, {error.state.name.lower().replace('_', ' ')}", error)
    except UserError as error:
        return failed("not begun", error)
    return Attempt(time.monotonic() - start, done.steps, done.verified, done.emulated)


def _now(device: Device) -> Device:
    """The device as it is now: its port may have another name, or it may be in its boot loader."""
    if device.location is None:
        return device
    deadline = time.monotonic() + FOUND_S
    while True:
        here = [other for other in ports.plugged() if other.location == device.location]
        if here:
            return here[0]
        if time.monotonic() > deadline:
            raise UserError(f"nothing is at USB place {device.location} any more")
        time.sleep(flash.POLL_S)


def steps(found: Soak) -> dict[str, tuple[float, float]]:
    """Median and maximum of the seconds of each step, of flashes that went well."""
    seconds: dict[str, list[float]] = {}
    for attempt in found.attempts:
        for name, took in (*attempt.steps, ("all", attempt.seconds)) if not attempt.kind else ():
            seconds.setdefault(name, []).append(took)
    last = seconds.pop("all", None)
    ordered = {**seconds, **({"all": last} if last else {})}
    return {name: (statistics.median(each), max(each)) for name, each in ordered.items()}


def kinds(found: Soak) -> Counter[str]:
    return Counter(attempt.kind for attempt in found.attempts if attempt.kind)


def as_json(found: Soak) -> dict[str, Any]:
    """The record: plain data."""
    facts, size = found.plan.image.facts, len(found.attempts)
    return {
        "schema": SCHEMA,
        "kind": "flash soak",
        "edge": __version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "board": found.plan.board.name,
        "emulated": any(attempt.emulated for attempt in found.attempts),
        "flasher": found.plan.flasher,
        "model": facts.name,
        "image": facts.identity,
        "flash_bytes": len(found.plan.image.flash_content()),
        "asked": found.asked,
        "interrupted": found.interrupted,
        "flashed": size,
        "well": found.well,
        "share_95": list(wilson(found.well, size)) if size else None,
        "failures": dict(kinds(found)),
        "steps_s": {
            name: {"median": round(mid, 3), "max": round(most, 3)} for name, (mid, most) in steps(found).items()
        },
        "attempts": [
            {
                "s": round(attempt.seconds, 3),
                "steps_s": {name: round(took, 3) for name, took in attempt.steps},
                "verified": attempt.verified,
                "failed": attempt.kind or None,
                "message": attempt.message or None,
            }
            for attempt in found.attempts
        ],
    }


def text(found: Soak) -> str:
    """The share with its interval, what failed, and how long each step takes."""
    size = len(found.attempts)
    if not size:
        return "no flash was finished\n"
    low, high = wilson(found.well, size)
    short = f", of {found.asked} that were asked for" if size < found.asked else ""
    lines = [
        f"{found.well} of {size} flashes went well and were verified{short}: {found.well / size:.1%}, "
        f"95 % interval {low:.1%} to {high:.1%} (Wilson)"
    ]
    by = Counter(attempt.verified for attempt in found.attempts if not attempt.kind)
    lines += [f"  {count} verified by: {how}" for how, count in by.items() if how != "firmware"]
    lines += [f"  {count} failed: {kind}" for kind, count in kinds(found).most_common()]
    if any(attempt.emulated for attempt in found.attempts):
        lines.append("  this board says that it is EMULATED: none of it is a figure of silicon")
    rows = steps(found)
    if rows:
        width = max(map(len, rows))
        lines.append(f"  {'step':{width}}  median s   max s")
        lines += [f"  {name:{width}}  {mid:8.2f}  {most:6.2f}" for name, (mid, most) in rows.items()]
    return "\n".join(lines) + "\n"
