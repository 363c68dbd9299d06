"""A .tflite of one operator, run by LiteRT's reference kernels: what tests of plain ops compare with."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from cortex import GUARD, Core, Cortex
from kernels import INCLUDES, PORTABLE, kernel_files
from numpy.typing import NDArray

from firmware_tools import graph, ops
from firmware_tools.build import build_host
from firmware_tools.c_text import C_TYPES
from firmware_tools.ops import Call, Run

Array = NDArray[Any]


@dataclass(frozen=True)
class T:
    """A tensor: its type, shape, quantization (scales along axis, zero point) and, where it is constant, its data."""

    dtype: str
    shape: tuple[int, ...]
    scale: float | Sequence[float] | None = None
    zero_point: int = 0
    axis: int = 0
    data: Array | None = None
    variable: bool = False  # kept from run to run, zeros at first


def model(op: str, inputs: Sequence[T | None], outputs: Sequence[T], options: Any = None, version: int = 1) -> bytes:
    """The file; inputs without data are the model's inputs, in order. None is an absent optional input."""
    graph, whole = schema.SubGraphT(), schema.ModelT()
    graph.tensors, whole.version, whole.buffers, whole.subgraphs = [], 3, [schema.BufferT()], [graph]
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    whole.operatorCodes, graph.operators = [code], [operator]
    operator.inputs = [-1 if t is None else _add(graph, whole, t) for t in inputs]
    operator.outputs = [_add(graph, whole, t) for t in outputs]
    graph.inputs = [
        i for i, t in zip(operator.inputs, inputs, strict=True) if t is not None and t.data is None and not t.variable
    ]
    graph.outputs = operator.outputs
    if options is not None:
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _add(graph: Any, whole: Any, t: T) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = f"t{len(graph.tensors)}", list(t.shape), 0
    tensor.isVariable = t.variable
    tensor.type = getattr(schema.TensorType, t.dtype.upper())
    if t.data is not None:
        assert t.data.shape == t.shape and t.data.dtype == t.dtype
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(t.data.tobytes(), np.uint8)
        whole.buffers.append(buffer)
        tensor.buffer = len(whole.buffers) - 1
    if t.scale is not None:
        scales = np.atleast_1d(np.asarray(t.scale, np.float32))
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.quantizedDimension = scales, t.axis
        tensor.quantization.zeroPoint = np.full(scales.size, t.zero_point, np.int64)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


class Lite:
    """A model in LiteRT's interpreter with its reference kernels, or with those it has beside."""

    def __init__(self, content: bytes, reference: bool = True) -> None:
        resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
        self.interpreter.allocate_tensors()

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        for detail, value in zip(self.interpreter.get_input_details(), inputs, strict=True):
            self.interpreter.set_tensor(detail["index"], value)
        self.interpreter.invoke()
        return tuple(self.interpreter.get_tensor(detail["index"]) for detail in self.interpreter.get_output_details())


@dataclass(frozen=True)
class Case:
    """An operator as the compiler lowers it, inputs for it, and what LiteRT's reference kernels make of them."""

    name: str
    call: Call
    outputs: tuple[tuple[str, tuple[int, ...]], ...]  # dtype and shape of each
    inputs: tuple[tuple[Array, ...], ...]
    expected: tuple[tuple[Array, ...], ...]


def case(stem: str, content: bytes, inputs: Sequence[tuple[Array, ...]], reference: bool = True) -> Case:
    """Lowers the one operator of a file by a stem and runs LiteRT on each of the inputs; reference: as Lite has it."""
    subgraph = graph.read(content).subgraphs[0]
    operator = subgraph.operators[0]
    call = ops.load(stem).lower(operator, subgraph)
    order = [subgraph.inputs.index(i) for i in call.inputs]  # a call may take its tensors in another order
    lite = Lite(content, reference)
    tensors = [subgraph.tensors[i] for i in subgraph.outputs]
    shapes = ", ".join(f"{t.dtype}{list(t.shape)}" for t in (subgraph.tensors[i] for i in operator.inputs if i >= 0))
    return Case(
        f"{operator.op} of {shapes} to {', '.join(str(list(t.shape)) for t in tensors)}, {dict(operator.options)}",
        call,
        tuple((t.dtype, t.shape) for t in tensors),
        tuple(tuple(values[i] for i in order) for values in inputs),
        tuple(lite.run(*values) for values in inputs),
    )


def same(found: Sequence[Array], expected: Sequence[Array]) -> bool:
    """Bit for bit, types and shapes too."""
    return len(found) == len(expected) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(found, expected, strict=True)
    )


def reference(one: Case, inputs: tuple[Array, ...], run: Run | None = None) -> tuple[Array, ...]:
    """run: what the case keeps from run to run."""
    outputs: tuple[Array, ...] = ops.load(one.call.op).reference(one.call, inputs, run or Run())
    return outputs


def used(cases: Sequence[Case]) -> list[str]:
    """The ops whose kernels the cases need."""
    return sorted({name for one in cases for name in ops.used(one.call)})


class Compiled:
    """The calls of cases in C, compiled for this machine (core None) or an emulated core, with these kernels."""

    def __init__(
        self, cases: Sequence[Case], folder: Path, core: Core | None, features: frozenset[str], counting: bool = False
    ) -> None:
        self.features, self.counting, self.instructions = features, counting, 0
        self.caches = [bytes(ops.cache_bytes(one.call)) for one in cases]
        path = folder / "calls.c"
        path.write_text(_source(cases, features), encoding="utf-8")
        files = [path, *kernel_files(features, used(cases))]
        self.cortex = None if core is None else Cortex(core, files, INCLUDES, folder)
        if core is None:
            self.library = ctypes.CDLL(str(build_host(files, INCLUDES, folder / "calls.so", sanitize=True)))

    def run(self, i: int, one: Case, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """The outputs of case number i; its memory has a guard on both sides."""
        values = [array.tobytes() for array in inputs]
        sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in one.outputs]
        values += [b"\xa5" * size for size in sizes]
        values += [self.caches[i], b"\xa5" * ops.workspace_bytes(one.call, self.features)]
        after = self._on_host(i, values) if self.cortex is None else self._on_core(i, values)
        found, self.caches[i] = after[len(inputs) : -2], after[-2]
        return tuple(
            np.frombuffer(data, dtype).reshape(shape) for data, (dtype, shape) in zip(found, one.outputs, strict=True)
        )

    def _on_host(self, i: int, values: list[bytes]) -> list[bytes]:
        blocks = [ctypes.create_string_buffer(GUARD + value + GUARD) for value in values]
        at = [ctypes.addressof(block) + len(GUARD) for block in blocks]
        getattr(self.library, f"call_{i}")((ctypes.c_void_p * len(at))(*at), *map(ctypes.c_void_p, at[-2:]))
        for block in blocks:
            assert block.raw[: len(GUARD)] == GUARD == block.raw[-1 - len(GUARD) : -1], f"call {i} wrote outside"
        return [block.raw[len(GUARD) : len(GUARD) + len(value)] for block, value in zip(blocks, values, strict=False)]

    def _on_core(self, i: int, values: list[bytes]) -> list[bytes]:
        core = self.cortex
        assert core is not None
        core.release()
        at = [core.put(value) for value in values]
        table = core.put(np.array(at, np.uint32).tobytes())
        self.instructions = core.call(f"call_{i}", table, *at[-2:], count=self.counting)
        return [core.get(a, len(value)) for a, value in zip(at, values, strict=True)]


def _source(cases: Sequence[Case], features: frozenset[str]) -> str:
    """C with a function for each case's statement."""
    lines = ["#include <stddef.h>", *(f'#include "{name}.h"' for name in sorted({one.call.op for one in cases}))]
    for i, one in enumerate(cases):
        c = {"cache": "cache", "workspace": "workspace"}
        for name, array in ops.layout(one.call, features).items():
            c[name] = f"{name}_{i}"
            numbers = ",".join(float(x).hex() + "f" if array.dtype == np.float32 else str(x) for x in array.ravel())
            kind = C_TYPES[array.dtype]
            lines.append(f"static const {kind} {c[name]}[] __attribute__((aligned(4))) = {{{numbers or 0}}};")
        kinds = [array.dtype for array in one.inputs[0]] + [np.dtype(dtype) for dtype, _ in one.outputs]
        sizes = [array.size for array in one.inputs[0]] + [int(np.prod(shape)) for _, shape in one.outputs]
        for j, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
            ins = len(one.inputs[0])
            key = f"in{j}" if j < ins else f"out{j - ins}"
            c[key] = f"(({C_TYPES.get(kind, 'uint8_t')} *)values[{j}])"
            c[f"{key}_count"] = str(size)
        signature = f"void call_{i}(void **values, void *cache, void *workspace)"
        lines += [f"{signature};", f"{signature} {{", "    (void)values, (void)cache, (void)workspace;"]
        lines.append(f"    {ops.load(one.call.op).statement(one.call, features, c)}\n}}")
    return "\n".join(lines) + "\n"


def checking_program(cases: Sequence[Case], stem: Path) -> tuple[Path, Path]:
    """C files of a program that runs every case on memory of exactly the size it needs and compares."""
    calls, main = stem / "calls.c", stem / "main.c"
    calls.write_text(_source(cases, PORTABLE), encoding="utf-8")
    data, lines = bytearray(), ["#include <stdint.h>", "#include <stdlib.h>", "#include <string.h>"]
    lines.append("extern const uint8_t data[];")
    for i, one in enumerate(cases):
        lines.append(f"void call_{i}(void **values, void *cache, void *workspace);")
        body = [f"    void *cache = calloc(1, {ops.cache_bytes(one.call)});"]
        for inputs, expected in zip(one.inputs, one.expected, strict=True):
            arrays = (*inputs, *expected)
            at = [len(data) + sum(array.nbytes for array in arrays[:j]) for j in range(len(arrays))]
            data += b"".join(array.tobytes() for array in arrays)
            own = ", ".join(f"malloc({array.nbytes})" for array in arrays)
            body.append(f"    {{\n        void *own[] = {{{own}}};")
            body.append(f"        void *workspace = malloc({ops.workspace_bytes(one.call, PORTABLE)});")
            body += [f"        memcpy(own[{j}], data + {at[j]}, {array.nbytes});" for j, array in enumerate(inputs)]
            body.append(f"        call_{i}(own, cache, workspace);")
            for j, array in enumerate(expected, start=len(inputs)):
                body.append(f"        if (memcmp(own[{j}], data + {at[j]}, {array.nbytes})) return {i + 1};")
            body.append(f"        for (size_t j = 0; j < {len(arrays)}; j++) free(own[j]);")
            body.append("        free(workspace);\n    }")
        lines += [f"static int case_{i}(void) {{", *body, "    free(cache);\n    return 0;\n}"]
    numbers = ", ".join(f"case_{i}" for i in range(len(cases)))
    lines += ["int main(void) {", f"    int (*const cases[])(void) = {{{numbers}}};"]
    lines.append("    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)")
    lines.append("        if (cases[i]()) return 1;\n    return 0;\n}")
    lines.append(f"const uint8_t data[] = {{{','.join(map(str, data))}}};")
    main.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return calls, main
