"""The record of a run: one JSON file with what was measured, on what, and by which tools.

Schema `edge.run/1.3`; the names of its keys are those of the dataclasses below, nested as they are. What was not
measured is null, never 0. Times are in the unit that `clock` names: `seconds` on hardware, `instructions` on an
emulated board, whose instructions say nothing about seconds. `sha256` is over the canonical JSON of the rest (sorted
keys, no spaces, ASCII): it detects accidents, not forgers. Another minor version (`edge.run/1.4`) may add keys, which
are left unread; another major version is refused. 1.1 added `accuracy.intervals_95` and `accuracy.outcomes`, 1.2
`machine`, `before`, `after` and `invalid`: a run with a reason in `invalid` has times that stand for nothing. 1.3
added `image.identity`, `memory.weights_in`, `clock_hz` and `trouble`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge.measure.circumstances import Invalid, Machine, Moment
from edge.measure.typed import dataclass_of
from edge.replacing import replacing
from firmware_tools.content import record_digest
from firmware_tools.errors import BadFile

MAJOR = "edge.run/1"
SCHEMA = f"{MAJOR}.3"
COMPARISON = "edge.comparison/1"  # schema of a file with several records, see decide/comparison.py
CLOCKS = ("instructions", "seconds")
Result = TypeVar("Result")
MAX_BYTES = 16 << 20  # of a file that is read: a million repeats fit


@dataclass(frozen=True)
class Model:
    """Which model: hashes of its canonical content, of its file, and of its tokenizer.json where it has one."""

    name: str
    sha256: str
    file_sha256: str
    tokenizer_sha256: str | None
    quantization: str | None


@dataclass(frozen=True)
class Image:
    """Which firmware, and the name and version of the toolchain that built it.

    null where there is none (host) or where it is not known (a board flashed by somebody). identity: the SHA-256 of all
    that went into the image, as the running firmware tells it.
    """

    sha256: str | None = None
    toolchain: str | None = None
    identity: str | None = None


@dataclass(frozen=True)
class Prefill:
    """Reading a prompt: the clock's units per token, and over how many tokens, from position 0."""

    per_token: float | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Decode:
    """Computing one token: every repeat in the clock's units, their median, and the cache position of the first.

    With one position it is measured again and again (`tokens` 1); else `tokens` positions follow each other in each
    repeat. A step at position p attends to p + 1 positions.
    """

    median: float | None = None
    repeats: tuple[float, ...] = ()
    position: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Inference:
    """One inference of a model that is no language model: every repeat in the clock's units, and their median."""

    median: float | None = None
    repeats: tuple[float, ...] = ()


@dataclass(frozen=True)
class Memory:
    """Bytes of flash (code: all but weights and vocabulary) and of RAM (arena, KV cache, stack).

    Of a model that is no language model kv_cache_bytes are what it keeps from one inference to the next, and
    input_bytes its inputs as they were given; null for language models. weights_in: whether a board reads its weights
    from `flash`, or from `ram`, to which they were copied at start.
    """

    code_bytes: int | None = None
    weight_bytes: int | None = None
    vocabulary_bytes: int | None = None
    arena_bytes: int | None = None
    kv_cache_bytes: int | None = None
    stack_bytes: int | None = None
    input_bytes: int | None = None
    weights_in: str | None = None


@dataclass(frozen=True)
class Reference:
    """The model whose distribution was the yardstick of `kl` and `top1`, computed on the host."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Intervals:
    """95 % intervals by bootstrap: so many resamples of so many units (blocks of tokens; of samples Wilson's).

    null where a figure was not measured, or there are too few units for an interval.
    """

    resamples: int
    units: int
    perplexity: tuple[float, ...] | None = None
    bits_per_byte: tuple[float, ...] | None = None
    kl: tuple[float, ...] | None = None
    top1: tuple[float, ...] | None = None
    disagreement: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Outcomes:
    """What the figures of an Accuracy sum up, so that two runs on the same data can be compared pair by pair.

    Of a text: tokens, bytes and nats of each of its blocks (tokens that follow each other), with a reference also the
    sum of kl and the number of agreed. Of a task or of classes: a character for each example in the order asked, 1
    where it was right; changed: 1 where the reference has another class.
    """

    tokens: tuple[int, ...] | None = None
    bytes: tuple[int, ...] | None = None
    nats: tuple[float, ...] | None = None
    kl: tuple[float, ...] | None = None
    agreed: tuple[int, ...] | None = None
    right: str | None = None
    changed: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """How good the answers are.

    Of a text, teacher-forced: perplexity, bits_per_byte over tokens and bytes; kl is the mean of KL(reference || model)
    in nats per token, top1 how often both hold the same token for the likeliest. Of a task: exact_match over
    sample_size of task_size examples, with its 95 % Wilson interval, and how tokens were chosen (sampling).
    data_sha256 is over the text or task file.

    Of another model's classes: accuracy over sample_size samples with its 95 % Wilson interval, macro_f1 (the mean over
    classes), auc (the second of two classes, or the mean of each against the rest). With a reference: disagreement, in
    which share of the samples another class is the likeliest, and max_difference, the furthest that two outputs are
    apart. data_sha256 is over the inputs as stored, and the labels.
    """

    perplexity: float | None = None
    bits_per_byte: float | None = None
    tokens: int | None = None
    bytes: int | None = None
    kl: float | None = None
    top1: float | None = None
    reference: Reference | None = None
    task: str | None = None
    sampling: str | None = None
    exact_match: float | None = None
    interval_95: tuple[float, ...] | None = None
    sample_size: int | None = None
    task_size: int | None = None
    data_sha256: str | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    auc: float | None = None
    classes: int | None = None
    disagreement: float | None = None
    max_difference: float | None = None
    intervals_95: Intervals | None = None
    outcomes: Outcomes | None = None


@dataclass(frozen=True)
class Part:
    """One call of a step: its op and shape, the layer it belongs to, and what it takes."""

    op: str
    shape: str
    layer: str
    instructions: int
    weight_bytes: int


@dataclass(frozen=True)
class Profile:
    """Where a decode step at a cache position goes, call by call in order; the parts add up to the step. position is
    null for an inference of a model that is no language model.

    predicted is the instructions of the step as the graph alone lets expect them (firmware_tools/costs.py).
    """

    position: int | None
    parts: tuple[Part, ...]
    predicted: int | None = None


@dataclass(frozen=True)
class Record:
    """One run; target is what `--on` was resolved to, context the positions its KV cache holds, where it has one.

    machine, before and after: what a computer told of itself (circumstances.py), null of a board. invalid: why its
    times are worthless; empty where nothing speaks against them. trouble: what of a board did not start, as it says;
    clock_hz: the clock that a board of silicon really ran at, null of all others.
    """

    model: Model
    image: Image
    target: str
    board: str
    emulated: bool
    clock: str
    context: int | None
    created: str
    tools: Mapping[str, str]
    memory: Memory = Memory()
    prefill: Prefill = Prefill()
    decode: Decode = Decode()
    inference: Inference = Inference()
    accuracy: Accuracy | None = None
    profile: Profile | None = None
    energy: None = None
    machine: Machine | None = None
    before: Moment | None = None
    after: Moment | None = None
    invalid: tuple[Invalid, ...] = ()
    trouble: str = ""
    clock_hz: int | None = None
    schema: str = SCHEMA


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON's types, its hash included."""
    data = json.loads(json.dumps(dataclasses.asdict(record), allow_nan=False))
    return {**data, "sha256": record_digest(data)}


def write(record: Record, path: Path) -> None:
    """Writes the record whole or not at all."""
    write_text(path, json.dumps(to_json(record), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file by way of a temporary name beside it; UserError where that fails."""
    with replacing(path) as file:
        file.write(text.encode())


def read(path: Path) -> Record:
    """The record in a file, verified: its schema, every type, its hash. BadFile where it is anything else."""
    return _read(path, from_json)


def read_all(path: Path) -> list[Record]:
    """The records in a file that holds one, or several as `eval` of several models writes them; verified as by read."""

    def records_of(data: Any) -> list[Record]:
        if isinstance(data, dict) and data.get("schema") == COMPARISON and isinstance(data.get("runs"), list):
            return [from_json(run) for run in data["runs"]]
        return [from_json(data)]

    return _read(path, records_of)


def _read(path: Path, understand: Callable[[Any], Result]) -> Result:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFile(
            f"{path} cannot be read: {error.strerror}", "give a file that `-o` of bench or eval wrote"
        ) from error
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        return understand(json.loads(content, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise BadFile(
            f"{path} is not the record of a run: {error}", "records come from `edge bench` and `edge eval` with -o"
        ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def from_json(data: Any) -> Record:
    """The record of JSON's types; ValueError names the first key that is wrong."""
    if not isinstance(data, dict) or not isinstance(data.get("schema"), str):
        raise ValueError("it has no schema")
    if not re.fullmatch(re.escape(MAJOR) + r"(\.\d+)?", data["schema"]):
        raise ValueError(f"its schema is {data['schema'][:40]!r}, and this version reads {MAJOR}")
    record = dataclass_of(Record, data, "")
    if data.get("sha256") != record_digest(data):
        raise ValueError("it was changed after it was written (its sha256 does not match)")
    if record.clock not in CLOCKS:
        raise ValueError(f"clock is neither of {', '.join(CLOCKS)}")
    _check_outcomes(record.accuracy and record.accuracy.outcomes)
    assert isinstance(record, Record)
    return record


def _check_outcomes(outcomes: Outcomes | None) -> None:
    """ValueError unless a text's columns are of one length and a task's of 0 and 1."""
    if outcomes is None:
        return
    columns = [outcomes.tokens, outcomes.bytes, outcomes.nats, outcomes.kl, outcomes.agreed]
    if len({len(column) for column in columns if column is not None}) > 1:
        raise ValueError("accuracy.outcomes has columns of different lengths")
    for name in ("right", "changed"):
        if not re.fullmatch("[01]*", getattr(outcomes, name) or ""):
            raise ValueError(f"accuracy.outcomes.{name} has a character that is neither 0 nor 1")
