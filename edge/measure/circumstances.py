"""What the computer that ran a model told of itself before and after, and what of that makes a measurement worthless.

A board is what its image says. A Raspberry Pi slows down when it is hot or its supply is weak, and nobody sees it in a
median: so a run during which that happened, or before which it had, is invalid. Its record is kept, with the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge.measure.typed import what_fits
from edge.run.plain import PlainRunning
from edge.run.target import Running

UNDER_VOLTAGE = "under-voltage"
# code of Invalid -> what a user can do
ADVICE = {
    "throttled": "let it cool, or cool it better, and measure again",
    "throttling-changed": "let it cool, or cool it better, and measure again",
    "throttling-unknown": "measure again; is the computer still well?",
    UNDER_VOLTAGE: "give it a supply and a cable for its rated current, and measure again",
    "governor-changed": "leave the governor alone while it measures",
    "clock-changed": "leave the clock alone while it measures, and keep it cool",
    "too-hot": "let it cool, or cool it better, and measure again",
}
SLOWER = 0.02  # of the clock: the firmware's measurement of one that stands still varies by less than a thousandth


@dataclass(frozen=True)
class Machine:
    """What a computer told of itself that does not change; null or empty is what it could not tell.

    model: as its device tree or BIOS has it; revision: a Raspberry Pi's code; userland_bits: of the programs, which may
    be 32 on a kernel of 64. supply_a: what a Pi 5's supply promised. temperature_limit_c: where it is slowed down.
    emulated_because: by what an emulator was recognized. virtual: the kind of virtual machine.
    """

    model: str | None = None
    revision: str | None = None
    system: str | None = None
    kernel: str | None = None
    architecture: str | None = None
    userland_bits: int | None = None
    cpu: str | None = None
    cpu_features: tuple[str, ...] = ()
    cores: int | None = None
    memory_bytes: int | None = None
    clock_min_hz: int | None = None
    clock_max_hz: int | None = None
    supply_a: float | None = None
    temperature_limit_c: float | None = None
    emulated_because: str | None = None
    virtual: str | None = None


@dataclass(frozen=True)
class Rail:
    """A supply rail of a Pi 5's PMIC."""

    name: str
    v: float | None = None
    a: float | None = None


@dataclass(frozen=True)
class Moment:
    """What a computer told of one moment; null is what it could not tell.

    throttled: the bits of a Raspberry Pi's firmware, throttled_now and throttled_since_boot their names.
    clock_limit_hz: the governor may go no higher; clock_hz: what it asked for; clock_measured_hz: by the firmware.
    rails_w is the sum over the rails of a Pi 5's PMIC at this moment: neither an average, nor all that the board takes.
    """

    governors: tuple[str, ...] | None = None
    clock_limit_hz: int | None = None
    clock_hz: int | None = None
    clock_measured_hz: int | None = None
    temperature_c: float | None = None
    temperatures_c: Mapping[str, float] | None = None
    throttled: str | None = None
    throttled_now: tuple[str, ...] | None = None
    throttled_since_boot: tuple[str, ...] | None = None
    memory_available_bytes: int | None = None
    swap_bytes: int | None = None
    swap_free_bytes: int | None = None
    load_1min: float | None = None
    rails: tuple[Rail, ...] | None = None
    rails_w: float | None = None


@dataclass(frozen=True)
class Invalid:
    """A reason why a run's times stand for nothing: a code for programs, a sentence for people."""

    code: str
    sentence: str


def is_computer(running: Running | PlainRunning) -> bool:
    """Is it a computer, which answers FACTS, rather than a board?"""
    return running.info.raw.get("facts") is True


def look(running: Running | PlainRunning) -> Mapping[str, Any] | None:
    """What the computer at the other end tells now; None of a board."""
    return running.link.facts() if is_computer(running) else None


def machine(told: Mapping[str, Any] | None) -> Machine | None:
    """What does not change of what was told; anything that is not as it should be is left out."""
    return None if told is None else what_fits(Machine, told)


def moment(told: Mapping[str, Any] | None) -> Moment | None:
    """What changes of what was told; anything that is not as it should be is left out."""
    return None if told is None else what_fits(Moment, told)


def judge(machine: Machine | None, before: Moment | None, after: Moment | None) -> tuple[Invalid, ...]:
    """Why times measured between two moments are worthless; nothing where they are not, or nothing is known."""
    if machine is None or before is None or after is None:
        return ()
    return (*_throttling(before, after), *_clock(before, after), *_heat(machine, before, after))


def doubt(before: Moment | None) -> str | None:
    """What cannot be known of a run that is valid: a flag that is set since boot tells nothing of what comes after."""
    if before is None or not before.throttled_since_boot:
        return None
    return (
        f"slowed down at some time before ({', '.join(before.throttled_since_boot)}), so that the same during the run "
        "may have gone unseen; a restart makes the flags fresh"
    )


def _throttling(before: Moment, after: Moment) -> Iterator[Invalid]:
    if before.throttled_now is None or before.throttled_since_boot is None:
        return
    if after.throttled_now is None or after.throttled_since_boot is None:
        yield Invalid("throttling-unknown", "the computer told of throttling before the measurement, and not after it")
        return
    already = [name for name in before.throttled_now if name != UNDER_VOLTAGE]
    if already:
        yield Invalid("throttled", f"the computer was slowed down before the measurement began: {', '.join(already)}")
    # a flag that goes changes as much as one that comes
    changed = dict.fromkeys(
        [
            *sorted(set(before.throttled_now) ^ set(after.throttled_now)),
            *sorted(set(before.throttled_since_boot) ^ set(after.throttled_since_boot)),
        ]
    )
    if UNDER_VOLTAGE in (*before.throttled_now, *after.throttled_now, *changed):
        when = "before" if UNDER_VOLTAGE in before.throttled_now else "during"
        yield Invalid(UNDER_VOLTAGE, f"the supply's voltage was too low {when} the measurement")
    rest = [name for name in changed if name != UNDER_VOLTAGE]
    if rest:
        yield Invalid("throttling-changed", f"what slows the computer down changed meanwhile: {', '.join(rest)}")


def _clock(before: Moment, after: Moment) -> Iterator[Invalid]:
    if before.governors and after.governors and before.governors != after.governors:
        names = " to ".join(", ".join(governors) for governors in (before.governors, after.governors))
        yield Invalid("governor-changed", f"the governor of the clock changed from {names} meanwhile")
    first, last, what = before.clock_limit_hz, after.clock_limit_hz, "the limit of the clock"
    steady = ("performance",) == before.governors == after.governors
    if first == last and steady:  # with other governors the clock follows the load, and says nothing
        first, last, what = before.clock_measured_hz, after.clock_measured_hz, "the clock"
    if first and last and abs(last - first) > SLOWER * first:
        yield Invalid("clock-changed", f"{what} changed from {first / 1e6:.0f} to {last / 1e6:.0f} MHz meanwhile")


def _heat(machine: Machine, before: Moment, after: Moment) -> Iterator[Invalid]:
    found = [moment.temperature_c for moment in (before, after) if moment.temperature_c is not None]
    limit = machine.temperature_limit_c
    if found and limit is not None and max(found) >= limit:
        yield Invalid("too-hot", f"the processor had {max(found):.1f} °C, and is slowed down from {limit:.0f} °C on")
