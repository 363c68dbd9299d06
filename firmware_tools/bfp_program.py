"""Program -> the same as a board computes it: its options, and the arithmetic of a core without FPU.

There it is block floating point: every call becomes its stem's twin `X_bfp`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from firmware_tools import bfp
from firmware_tools.boards import Board
from firmware_tools.ops import Array, Call, attention_bfp, rms_norm_bfp, rope_bfp
from firmware_tools.program import DecoderProgram, Value

FLOAT_CACHE = "float-cache"  # an option of boards with an FPU
Twin = Callable[[Call], Call]


def for_board(program: DecoderProgram, board: Board) -> DecoderProgram:
    """The program in the arithmetic of a board's core, and with the KV cache that its options say."""
    if FLOAT_CACHE in board.features:
        return with_float_cache(program)
    return program if "fpu" in board.features else in_bfp(program)


def with_float_cache(program: DecoderProgram) -> DecoderProgram:
    """The program with a float32 KV cache: what is left between host and device are FULLY_CONNECTED's rounded rows."""
    changes = {"attention": {"cache_bits": 32}, "swiglu": {"bits": 32}}
    calls = (replace(call, attributes={**call.attributes, **changes.get(call.op, {})}) for call in program.calls)
    return replace(program, calls=tuple(calls))


def in_bfp(program: DecoderProgram) -> DecoderProgram:
    """The program for a core without FPU; itself where that would not pay: float32 weights stay soft float."""
    if not all(_has_twin(call) for call in program.calls):
        return program
    logits = len(program.values)
    values = [replace(value, dtype="int32", shape=(value.size + 1,)) for value in program.values]
    last = Call("bfp_to_float", (program.logits,), (logits,))
    return replace(
        program,
        calls=(*(TWINS[call.op](call) for call in program.calls), last),
        values=(*values, Value("float32", (program.vocab_size,))),
        outputs=(logits,),
    )


def _has_twin(call: Call) -> bool:
    if call.op in ("fully_connected", "embedding"):
        return "scales" in call.constants
    if call.op == "attention":
        head_dim = int(call.attributes["head_dim"])
        return head_dim % 2 == 0 and head_dim <= attention_bfp.MOST_HEAD_DIM
    return call.op in TWINS


def _matrix(call: Call) -> Call:
    scales, exponent = bfp.constant(call.constants["scales"], 16)
    constants: dict[str, Array] = {"weights": call.constants["weights"], "scales": scales.astype(np.uint16)}
    if "bias" in call.constants:
        mantissas, bias_exponent = bfp.constant(call.constants["bias"], 29)
        constants["bias"] = bfp.join(bias_exponent, mantissas)
    return replace(call, op=f"{call.op}_bfp", constants=constants, attributes={"exponent": exponent})


def _rms_norm(call: Call) -> Call:
    constants, attributes = rms_norm_bfp.constants(call.constants["gain"], float(call.attributes["epsilon"]))
    return replace(call, op="rms_norm_bfp", constants=constants, attributes=attributes)


def _rope(call: Call) -> Call:
    return replace(call, op="rope_bfp", constants={k: rope_bfp.table(v) for k, v in call.constants.items()})


def _plain(call: Call) -> Call:
    return replace(call, op=f"{call.op}_bfp")


TWINS: dict[str, Twin] = {
    "add": _plain,
    "attention": _plain,
    "embedding": _matrix,
    "fully_connected": _matrix,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "swiglu": _plain,
}
