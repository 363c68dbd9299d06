"""Operators of .tflite files as the compiler takes them: lowered by the ops' stems, computed in numpy, run as C."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cortex import Core, Cortex
from kernels import INCLUDES, OPS

from firmware_tools import graph, ops
from firmware_tools.build import build_host
from firmware_tools.c_text import C_TYPES, rows
from firmware_tools.floats import as_stored
from firmware_tools.graph import Subgraph
from firmware_tools.ops import Array, Call, Run

PORTABLE: frozenset[str] = frozenset()


def compute(call: Call, values: Mapping[int, Array], run: Run) -> dict[int, Array]:
    """The outputs of a call by their tensors."""
    outputs = ops.load(call.op).reference(call, tuple(values[i] for i in call.inputs), run)
    return dict(zip(call.outputs, outputs, strict=True))


@dataclass(frozen=True)
class Plain:
    """A call of a file's only operator, and the tensors around it."""

    name: str
    call: Call
    subgraph: Subgraph

    @staticmethod
    def of(name: str, content: bytes) -> Plain:
        subgraph = graph.read(content).subgraphs[0]
        return Plain(name, ops.lower(subgraph.operators[0], subgraph), subgraph)

    def reference(self, inputs: Sequence[Array], run: Run | None = None) -> tuple[Array, ...]:
        """Outputs for the subgraph's inputs; checks that they are what the file declares."""
        values = dict(zip(self.subgraph.inputs, inputs, strict=True))
        found = compute(self.call, values, run or Run())
        for index, array in found.items():
            tensor = self.subgraph.tensors[index]
            assert (array.shape, array.dtype) == (tensor.shape, np.dtype(tensor.dtype)), (self.name, array.dtype)
        return tuple(found[index] for index in self.subgraph.outputs)


def source(plains: Sequence[Plain], features: frozenset[str]) -> str:
    """C with a function `call_i(values, cache, workspace)` for each; values: the call's inputs, then its outputs."""
    used = sorted({name for plain in plains for name in ops.used(plain.call)})
    lines = ["#include <stddef.h>", "#include <stdint.h>"] + [f'#include "{name}.h"' for name in used]
    for i, plain in enumerate(plains):
        call = plain.call
        c = {name: name for name in ("cache", "workspace")} | {"count": "1", "position": "0"}
        for name, array in ops.layout(call, features).items():
            c[name] = f"{name}_{i}"
            head = f"static const {C_TYPES[array.dtype]} {c[name]}[] __attribute__((aligned(4)))"
            lines.append(f"{head} = {{\n{rows(array)}\n}};")
        for j, (kind, n, index) in enumerate(_values(call)):
            tensor = plain.subgraph.tensors[index]
            c[f"{kind}{n}"] = f"({C_TYPES[np.dtype(tensor.dtype)]} *)values[{j}]"
            c[f"{kind}{n}_count"] = str(int(np.prod(tensor.shape)))
        lines.append(f"void call_{i}(void **values, void *cache, void *workspace);")
        lines.append(f"void call_{i}(void **values, void *cache, void *workspace) {{")
        lines.append("    (void)values, (void)cache, (void)workspace;")
        lines.append(f"    {ops.load(call.op).statement(call, features, c)}\n}}")
    return "\n".join(lines) + "\n"


def _values(call: Call) -> list[tuple[str, int, int]]:
    ins = [("in", n, index) for n, index in enumerate(call.inputs)]
    return ins + [("out", n, index) for n, index in enumerate(call.outputs)]


def kernel_files(plains: Sequence[Plain], features: frozenset[str]) -> list[Path]:
    used = sorted({name for plain in plains for name in ops.used(plain.call)})
    files = [OPS / f"{name}{suffix}.c" for name in used for suffix in ("", *(f"_{f}" for f in sorted(features)))]
    return [path for path in files if path.exists()]


class PlainRunner:
    """Compiled calls; what a call keeps between invocations starts as zeros and is kept here."""

    features = PORTABLE

    def __init__(self, plains: Sequence[Plain], folder: Path) -> None:
        self.plains = plains
        self.caches = [bytes(ops.cache_bytes(plain.call)) for plain in plains]
        path = folder / "plain_calls.c"
        path.write_text(source(plains, self.features), encoding="utf-8")
        self.files = [path, *kernel_files(plains, self.features)]

    def invoke(self, i: int, values: list[bytes], cache: bytes, workspace: int) -> tuple[list[bytes], bytes]:
        raise NotImplementedError

    def run(self, i: int, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs of call i for the subgraph's inputs."""
        plain = self.plains[i]
        given = dict(zip(plain.subgraph.inputs, inputs, strict=True))
        tensors = [plain.subgraph.tensors[index] for index in plain.call.outputs]
        values = [_stored(given[index]).tobytes() for index in plain.call.inputs]
        values += [b"\xa5" * int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in tensors]
        workspace = ops.workspace_bytes(plain.call, self.features)
        after, self.caches[i] = self.invoke(i, values, self.caches[i], workspace)
        assert after[: len(plain.call.inputs)] == values[: len(plain.call.inputs)], "an input was written"
        outputs = after[len(plain.call.inputs) :]
        return tuple(
            np.frombuffer(data, np.uint8 if t.dtype == "bool" else t.dtype).astype(t.dtype).reshape(t.shape)
            for data, t in zip(outputs, tensors, strict=True)
        )


def _stored(array: Array) -> Array:
    return np.ascontiguousarray(as_stored({"x": array})["x"])


class PlainHost(PlainRunner):
    """On this machine."""

    def __init__(self, plains: Sequence[Plain], folder: Path, sanitize: bool = False) -> None:
        super().__init__(plains, folder)
        out = folder / ("checked.so" if sanitize else "plain.so")
        self.library = ctypes.CDLL(str(build_host(self.files, INCLUDES, out, sanitize=sanitize)))

    def invoke(self, i: int, values: list[bytes], cache: bytes, workspace: int) -> tuple[list[bytes], bytes]:
        blocks = [ctypes.create_string_buffer(value, max(len(value), 1)) for value in values]
        table = (ctypes.c_void_p * max(len(blocks), 1))(*(ctypes.addressof(block) for block in blocks))
        kept = ctypes.create_string_buffer(cache, max(len(cache), 1))
        scratch = ctypes.create_string_buffer(b"\xa5" * workspace, max(workspace, 1))
        getattr(self.library, f"call_{i}")(table, kept, scratch)
        return [block.raw[: len(value)] for block, value in zip(blocks, values, strict=True)], kept.raw[: len(cache)]


class PlainCortex(PlainRunner):
    """On an emulated core, with its fast kernels."""

    def __init__(self, core: Core, plains: Sequence[Plain], folder: Path) -> None:
        self.features = core.features
        super().__init__(plains, folder)
        self.cortex = Cortex(core, self.files, INCLUDES, folder)

    def invoke(self, i: int, values: list[bytes], cache: bytes, workspace: int) -> tuple[list[bytes], bytes]:
        core = self.cortex
        core.release()
        at = [core.put(value) for value in values]
        table, kept = core.put(np.array(at, np.uint32).tobytes()), core.put(cache)
        core.call(f"call_{i}", table, kept, core.put(b"\xa5" * workspace))
        return [core.get(a, len(value)) for a, value in zip(at, values, strict=True)], core.get(kept, len(cache))


def checking_program(plains: Sequence[Plain], inputs: Sequence[Sequence[Sequence[Array]]]) -> str:
    """A C program that calls each with its inputs, everything in a heap block of its own for AddressSanitizer to watch,
    and compares the outputs; beside `source`."""
    lines = ["#include <stdint.h>", "#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    lines += ["static void *block(const void *from, size_t size) {", "    void *own = malloc(size);"]
    lines += ["    if (from) memcpy(own, from, size); else memset(own, 0, size);", "    return own;", "}"]
    body = []
    for i, (plain, given) in enumerate(zip(plains, inputs, strict=True)):
        lines.append(f"void call_{i}(void **values, void *cache, void *workspace);")
        body += [f"static int check_{i}(void) {{", f"    void *cache = block(NULL, {ops.cache_bytes(plain.call)});"]
        run = Run()
        for n, arrays in enumerate(given):
            known = dict(zip(plain.subgraph.inputs, arrays, strict=True))
            outputs = compute(plain.call, known, run)
            values = [known[index] for index in plain.call.inputs] + [outputs[index] for index in plain.call.outputs]
            own = []
            for j, value in enumerate(values):
                data = _stored(value)
                name = f"data_{i}_{n}_{j}"
                lines.append(f"static const {C_TYPES[data.dtype]} {name}[] = {{\n{rows(data)}\n}};")
                own.append(f"block({name if j < len(plain.call.inputs) else 'NULL'}, sizeof {name})")
            body += ["    {", f"        void *own[] = {{{', '.join(own)}}};"]
            body.append(f"        void *workspace = block(NULL, {ops.workspace_bytes(plain.call, PORTABLE)});")
            body.append(f"        call_{i}(own, cache, workspace);")
            for j in range(len(plain.call.inputs), len(values)):
                if values[j].dtype != np.float32 or not np.isnan(values[j]).any():
                    body.append(f"        if (memcmp(own[{j}], data_{i}_{n}_{j}, sizeof data_{i}_{n}_{j}))")
                    body.append(f'            return fprintf(stderr, "call {i}, inputs {n}: wrong\\n"), 1;')
            body += [
                f"        for (size_t j = 0; j < {len(values)}; j++) free(own[j]);",
                "        free(workspace);",
                "    }",
            ]
        body += ["    free(cache);", "    return 0;", "}"]
    calls = " || ".join(f"check_{i}()" for i in range(len(plains)))
    return "\n".join([*lines, *body, f"int main(void) {{ return {calls}; }}"]) + "\n"


def same(a: Array, b: Array) -> bool:
    """Equal bit for bit, but that one NaN is as good as another."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype != np.float32:
        return bool(np.array_equal(a, b))
    nan: Any = np.isnan(a) & np.isnan(b)
    return bool((nan | (a.view(np.int32) == b.view(np.int32))).all())
