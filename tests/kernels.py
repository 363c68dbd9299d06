"""Calls of ops as the compiler writes them, compiled for this machine or a Cortex-M and run on given memory.

Each call becomes one C function `call_0`, `call_1` … of its constants' layout and its statement, so that a test covers
layout, statement and kernel together.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cortex import Core, Cortex
from helium import Compiler, Helium

from firmware_tools import ops
from firmware_tools.build import build_host
from firmware_tools.ops import Array, Call
from firmware_tools.program import Value

OPS = Path(ops.__file__).parent
DECODERS = tuple(name for name in ops.names() if not hasattr(ops.load(name), "OPERATORS"))  # their ops, no file's own
INCLUDES = (OPS, OPS.parent / "runtime")
PORTABLE: frozenset[str] = frozenset()
Form = Value | int  # a number is that of float32 elements
Lengths = Sequence[tuple[Sequence[Form], Sequence[Form]]]  # of each call: its inputs and its outputs
Left = tuple[list[bytes], bytes]  # values and cache as a call left them
C_TYPES = {"float32": "float", **{name: f"{name}_t" for name in ("int8", "uint8", "int16", "uint16", "int32")}}


def value(form: Form) -> Value:
    return Value("float32", (form,)) if isinstance(form, int) else form


def source(calls: Sequence[Call], lengths: Lengths, features: frozenset[str]) -> str:
    """C with a function for each call."""
    lines = [f'#include "{name}.h"' for name in sorted({call.op for call in calls})]
    for i, (call, (ins, outs)) in enumerate(zip(calls, lengths, strict=True)):
        op = ops.load(call.op)
        c = {name: name for name in ("tokens", "position", "count", "workspace", "cache")}
        for name, array in ops.layout(call, features).items():
            c[name] = f"{name}_{i}"
            numbers = ",".join(f"{x!s}f" if array.dtype == np.float32 else str(x) for x in array.ravel())
            lines.append(
                f"static const {C_TYPES[array.dtype.name]} {c[name]}[] __attribute__((aligned(4))) = {{{numbers}}};"
            )
        for kind, group in (("in", ins), ("out", outs)):
            for j, length in enumerate(group):
                at, form = j + (len(ins) if kind == "out" else 0), value(length)
                c[f"{kind}{j}"] = f"(({C_TYPES[form.dtype]} *)values[{at}])"
                c[f"{kind}{j}_count"] = str(form.size)
        lines.append(f"void call_{i}(const uint32_t *step, void **values, void *cache, void *workspace) {{")
        lines.append("    uint32_t position = step[0], count = step[1];")
        lines.append("    const uint32_t *tokens = step + 2;")
        lines.append("    (void)position, (void)count, (void)tokens, (void)values, (void)cache, (void)workspace;")
        lines.append(f"    {op.statement(call, features, c)}\n}}")
    return "\n".join(lines) + "\n"


def kernel_files(features: frozenset[str], names: Sequence[str] = DECODERS) -> list[Path]:
    """The kernels of these ops that a core with these features uses."""
    files = [OPS / f"{name}.c" for name in names]
    files += [OPS / f"{name}_{feature}.c" for name in names for feature in sorted(features)]
    return [path for path in files if path.exists()]


class Runner(ABC):
    """Compiled calls; what a call keeps from step to step is kept here."""

    def __init__(self, calls: Sequence[Call], lengths: Lengths, features: frozenset[str]) -> None:
        self.calls, self.lengths, self.features = calls, lengths, features
        sizes = [ops.cache_bytes(c) for c in calls]
        self.caches = [b"\xa5" * size for size in sizes]  # a device does not clear them either

    def flush(self, x: Array) -> Array:
        """Numbers as the core takes them and leaves them."""
        return x

    @abstractmethod
    def invoke(self, i: int, step: bytes, values: list[bytes], cache: bytes, workspace: int) -> Left:
        """Runs call i; returns the values and the cache as it left them."""

    def run(self, i: int, inputs: Sequence[Array], token: int = 0, position: int = 0) -> tuple[Array, ...]:
        """Outputs of call i for its inputs; an output that is an input by its index shares its memory."""
        return self.run_rows(i, inputs, [token], position)

    def run_rows(self, i: int, inputs: Sequence[Array], tokens: Sequence[int], position: int) -> tuple[Array, ...]:
        """The same for several tokens at once: inputs and outputs are all their rows, one after the other."""
        call, (ins, outs), rows = self.calls[i], self.lengths[i], len(tokens)
        values = [array.astype(value(form).dtype).tobytes() for array, form in zip(inputs, ins, strict=True)]
        values += [b"\xa5" * value(form).size_bytes * rows for form in outs]
        workspace = ops.workspace_bytes(call, self.features, rows)
        step = np.array([position, rows, *tokens], np.uint32).tobytes()
        after, self.caches[i] = self.invoke(i, step, values, self.caches[i], workspace)
        results = []
        for j, index in enumerate(call.outputs):
            at = call.inputs.index(index) if index in call.inputs else len(inputs) + j
            results.append(np.frombuffer(after[at], value(outs[j]).dtype))
        return tuple(results)

    def share(self, i: int, addresses: Sequence[int]) -> list[int]:
        """Addresses of values where outputs computed in place lie on their inputs."""
        call = self.calls[i]
        outputs = [
            addresses[call.inputs.index(index)] if index in call.inputs else addresses[len(call.inputs) + j]
            for j, index in enumerate(call.outputs)
        ]
        return [*addresses[: len(call.inputs)], *outputs]


class HostRunner(Runner):
    """On this machine, the portable kernels."""

    def __init__(
        self,
        calls: Sequence[Call],
        lengths: Lengths,
        folder: Path,
        sanitize: bool = False,
    ) -> None:
        super().__init__(calls, lengths, PORTABLE)
        path = folder / "calls.c"
        path.write_text(source(calls, lengths, PORTABLE), encoding="utf-8")
        out = folder / ("checked.so" if sanitize else "plain.so")
        files = [path, *kernel_files(PORTABLE)]
        self.library = ctypes.CDLL(str(build_host(files, INCLUDES, out, sanitize=sanitize)))

    def invoke(self, i: int, step: bytes, values: list[bytes], cache: bytes, workspace: int) -> Left:
        blocks = [ctypes.create_string_buffer(value, max(len(value), 1)) for value in values]
        addresses = self.share(i, [ctypes.addressof(block) for block in blocks])
        table = (ctypes.c_void_p * max(len(addresses), 1))(*addresses)
        kept = ctypes.create_string_buffer(cache, max(len(cache), 1))
        scratch = ctypes.create_string_buffer(b"\xa5" * workspace, max(workspace, 1))
        getattr(self.library, f"call_{i}")(ctypes.c_char_p(step), table, kept, scratch)
        return [block.raw[: len(value)] for block, value in zip(blocks, values, strict=True)], kept.raw[: len(cache)]


class CortexRunner(Runner):
    """On an emulated core; features choose the kernels. `instructions` is what the last call took, if counting."""

    def __init__(
        self,
        core: Core,
        features: frozenset[str],
        calls: Sequence[Call],
        lengths: Lengths,
        folder: Path,
        counting: bool = False,
        more: Sequence[Path] = (),
    ) -> None:
        super().__init__(calls, lengths, features)
        path = folder / "calls.c"
        path.write_text(source(calls, lengths, features), encoding="utf-8")
        orders = [Path(__file__).parent / "pair_orders.c"] if "pair" in features else []
        self.cortex = Cortex(core, [path, *kernel_files(features), *orders, *more], INCLUDES, folder)
        self.counting = counting
        self.instructions = 0

    def invoke(self, i: int, step: bytes, values: list[bytes], cache: bytes, workspace: int) -> Left:
        core = self.cortex
        core.release()
        at = [core.put(value) for value in values]
        table = core.put(np.array(self.share(i, at), np.uint32).tobytes())
        kept, scratch = core.put(cache), core.put(b"\xa5" * workspace)
        self.instructions = core.call(f"call_{i}", core.put(step), table, kept, scratch, count=self.counting)
        return [core.get(a, len(value)) for a, value in zip(at, values, strict=True)], core.get(kept, len(cache))


class HeliumRunner(CortexRunner):
    """On QEMU's Cortex-M55."""

    def __init__(
        self,
        compiler: Compiler,
        features: frozenset[str],
        calls: Sequence[Call],
        lengths: Lengths,
        folder: Path,
        counting: bool = False,
    ) -> None:
        Runner.__init__(self, calls, lengths, features)
        path = folder / "calls.c"
        path.write_text(source(calls, lengths, features), encoding="utf-8")
        names = [f"call_{i}" for i in range(len(calls))]
        self.cortex = Helium(compiler, names, [path, *kernel_files(features)], INCLUDES, folder)
        self.counting = counting
        self.instructions = 0

    def flush(self, x: Array) -> Array:
        """Helium takes a number below 2^-126 for zero (Arm's «standard floating-point arithmetic»)."""
        return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)
