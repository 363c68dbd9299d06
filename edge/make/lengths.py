"""How long a file's signatures are: positions of the KV cache, tokens of a prefill; and whether the cache is open.

A step attends over every position of the cache that it is given, filled or not. Where the cache is open, whoever runs
the file gives it no more than what is filled.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.make.checkpoints import Architecture
from firmware_tools.errors import UserError

CONTEXT = 2048  # positions, where the caller does not say
# tokens of one run of the signature `prefill`, where the caller does not say: a large model's run waits for its weights
PREFILL, PREFILL_OF_LARGE = 16, 64
SMALL_BYTES = 8 << 20  # of weights: below it a model may be for a board, which takes fixed shapes alone


@dataclass(frozen=True)
class Lengths:
    """context: positions at most. prefill: tokens of one run. open_cache: may the cache be given fewer positions?"""

    context: int
    prefill: int
    open_cache: bool = False


def chosen(
    shape: Architecture,
    weight_bytes: int,
    context: int | None = None,
    prefill: int | None = None,
    open_cache: bool | None = None,
) -> Lengths:
    """What the caller says, in range, and for what they leave open what suits weights of so many bytes."""
    context = min(shape.context, CONTEXT) if context is None else context
    if not 2 <= context <= shape.context:
        hint = f"choose 2 to {shape.context}, what the checkpoint was trained with"
        raise UserError(f"a context of {context} positions is out of range", hint)
    large = weight_bytes >= SMALL_BYTES
    if prefill is None:
        prefill = min(PREFILL_OF_LARGE if large else PREFILL, context)
    if not 2 <= prefill <= context:
        raise UserError(f"a prefill of {prefill} tokens is out of range", f"choose 2 to {context}, the context")
    return Lengths(context, prefill, large if open_cache is None else open_cache)
