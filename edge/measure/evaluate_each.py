"""Several models on the same data, one after another: one record each, which then can be compared pair by pair.

One child process lives at a time. What the reference says of a text is computed once and kept in a temporary file, as
long as that is not too large; beyond, the reference runs beside each model.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from edge.measure.evaluate import Recorded, evaluate, record_reference
from edge.measure.evaluate_plain import evaluate_plain
from edge.measure.record import Record
from edge.run.login import one_login
from edge.run.plain import open_plain, open_reference
from edge.run.target import Running, open_target
from edge.tasks import read_text
from edge.tokenizer import from_card
from firmware_tools import graph
from firmware_tools.errors import UserError

MOST_KEPT_BYTES = 2 << 30  # of a reference's logits


def evaluate_each(
    models: Sequence[Path],
    target: str,
    reference: Path | None,
    *,
    context: int | None = None,
    toolchain: str | None = None,
    text: Path | None = None,
    **what: Any,
) -> list[Record]:
    """The record of each language model, as `evaluate` makes it.

    A text is read by all of them in the same pieces: those of the smallest context, where context does not say.
    """
    if text is not None and len(models) > 1:
        context = _common_context(models) if context is None else context
    found = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_login())
        file = stack.enter_context(tempfile.TemporaryFile())
        kept = None
        if reference and text and len(models) > 1 and _fits(reference, text, what["limit"]):
            kept = _keep(reference, text, what["limit"], context, file)
        for model in models:
            with (
                open_target(target, model, context=context, toolchain=toolchain) as running,
                _yardstick(kept, reference, running) as yardstick,
            ):
                found.append(evaluate(running, reference=yardstick, text=text, **what))
    return found


def evaluate_each_plain(
    models: Sequence[Path],
    target: str,
    reference: str | None,
    *,
    signature: str | None = None,
    toolchain: str | None = None,
    **what: Any,
) -> list[Record]:
    """The record of each other model, as `evaluate_plain` makes it; a reference `host` is each model itself."""
    found = []
    with one_login():
        for model in models:
            with contextlib.ExitStack() as stack:
                running = stack.enter_context(open_plain(target, model, signature=signature, toolchain=toolchain))
                yardstick = None
                if reference:
                    other = model if reference == "host" else Path(reference)
                    yardstick = stack.enter_context(open_reference(other, signature))
                found.append(evaluate_plain(running, what["inputs"], what["labels"], yardstick, what["limit"]))
    return found


def _common_context(models: Sequence[Path]) -> int:
    """The smallest context of the models; UserError where they read a text as different tokens."""
    read = [graph.read(model) for model in models]
    for model, facts in zip(models, read, strict=True):
        if facts.tokenizer != read[0].tokenizer:
            raise UserError(
                f"{model.name} has another tokenizer than {models[0].name}: their tokens are no pairs",
                "evaluate each by itself; bits a byte can be compared",
            )
    return min(int(facts.card["architecture"]["context"]) for facts in read if facts.card)


def _fits(reference: Path, text: Path, limit: int | None) -> bool:
    facts = graph.read(reference)
    tokens = len(from_card(facts.tokenizer, facts.card).encode(read_text(text))[:limit])
    return tokens * int(facts.card["architecture"]["vocab_size"]) * 4 <= MOST_KEPT_BYTES


def _keep(reference: Path, text: Path, limit: int | None, context: int | None, file: BinaryIO) -> Recorded:
    with open_target("host", reference, context=context) as running:
        return record_reference(running, text, limit, file)


@contextlib.contextmanager
def _yardstick(kept: Recorded | None, reference: Path | None, running: Running) -> Iterator[Running | Recorded | None]:
    if kept or reference is None:
        yield kept
        return
    with open_target("host", reference, context=running.context) as beside:
        yield beside
