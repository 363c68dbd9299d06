"""Graph -> Program for any .tflite: each operator becomes a call of an op that takes it (`ops.…OPERATORS`, `lower`).

Loops are unrolled and what depends on constants alone is folded first, and what no output needs is left out. RESHAPE,
SQUEEZE and EXPAND_DIMS compute nothing: their tensors are one value, seen in several shapes. Variable tensors are
values that live from one inference to the next. All operators that no op takes are found at once, before anything is
built.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from firmware_tools import ops, shapes
from firmware_tools.errors import UserError
from firmware_tools.graph import Graph, Operator, Subgraph, Tensor
from firmware_tools.ops import MALFORMED, Call, Unsupported
from firmware_tools.program import Border, PlainProgram, UnfusedProgram, Value
from firmware_tools.simplify import simplified

ALIASES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
DTYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")  # of values; which of them, each op says
MOST_ELEMENTS = 1 << 28
MOST_NAMED = 4  # operators that one message names
DEFAULT_SIGNATURE = "serving_default"
ON_HOST = "`edge run MODEL --on host` runs it with LiteRT"
CONTROL = "control flow is not compiled: export the model with its loops unrolled and its branches resolved"
HINTS = {
    "CUSTOM": "operators outside TFLite's own cannot be compiled: convert the model without them",
    **dict.fromkeys(("IF", "CALL", "CALL_ONCE"), CONTROL),
}
# what a model may use instead of an operator that no board computes
ALTERNATIVES = {
    "ADD_N": "ADD",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "two UNIDIRECTIONAL_SEQUENCE_LSTM",
    "CONV_3D": "CONV_2D",
    "GATHER_ND": "GATHER",
    "L2_NORMALIZATION": "SQUARE, SUM, RSQRT and MUL",
    "L2_POOL_2D": "AVERAGE_POOL_2D",
    "LSTM": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "RESIZE_BILINEAR": "RESIZE_NEAREST_NEIGHBOR",
    "RNN": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "TOPK_V2": "ARG_MAX",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "UNIDIRECTIONAL_SEQUENCE_LSTM",
}


@dataclass(frozen=True)
class Refusal:
    """An operator that is not compiled, the tensor it computes, why, and what may help."""

    operator: int
    op: str
    tensor: str
    reason: str
    hint: str


@dataclass(frozen=True)
class Entry:
    """The way into a model that is compiled: a subgraph, and what its inputs and outputs are called."""

    signature: str | None
    number: int
    subgraph: Subgraph
    names: Mapping[int, str]


def program(graph: Graph, signature: str | None = None) -> PlainProgram:
    """A model as calls of plain ops.

    Args:
        graph: a verified model.
        signature: by which of its signatures; None: `serving_default`, or the only one there is.

    Raises:
        UserError: there is no such signature, or an operator is not supported; names the first such operator.
    """
    lowering = _Lowering(graph, entry(graph, signature))
    if lowering.refused:
        raise not_supported(lowering.refused)
    return lowering.program()


def unfused(graph: Graph) -> UnfusedProgram:
    """A language model of ours as calls of plain ops, for a graph that fuse.py does not understand.

    UserError where an operator is not supported.
    """
    plain, shape = program(graph, "decode"), graph.card["architecture"]
    inputs = {border.name: border.value for border in plain.borders_in}
    outputs = {border.name: border.value for border in plain.borders_out}
    layers = range(shape["layers"])
    caches = tuple((inputs[f"{side}_{i}"], outputs[f"{side}_new_{i}"]) for i in layers for side in "kv")
    return UnfusedProgram(
        calls=plain.calls,
        values=plain.values,
        inputs=(inputs["token"], inputs["position"]),
        outputs=(outputs["logits"], *(row for _, row in caches)),
        head=plain.head,
        **{name: shape[name] for name in ("vocab_size", "context", "layers", "heads", "kv_heads", "head_dim")},
        caches=caches,
        shapes=plain.shapes,
    )


def refusals(graph: Graph, signature: str | None = None) -> tuple[Refusal, ...]:
    """Every operator that is not supported, in the file's order; UserError where there is no such signature."""
    return tuple(_Lowering(graph, entry(graph, signature)).refused)


def entry(graph: Graph, signature: str | None = None) -> Entry:
    """Where a model begins; UserError says which signatures there are."""
    known = ", ".join(f"--signature {name}" for name in graph.signatures)
    if signature is None and len(graph.signatures) > 1:
        if DEFAULT_SIGNATURE not in graph.signatures:
            raise UserError(f"the model has {len(graph.signatures)} signatures, and none is the default", known)
        signature = DEFAULT_SIGNATURE
    elif signature is None and graph.signatures:
        signature = next(iter(graph.signatures))
    elif signature is not None and signature not in graph.signatures:
        raise UserError(f"the model has no signature {signature}", known or "it has none at all: leave the option out")
    if signature is None:
        return Entry(None, 0, graph.subgraphs[0], {})
    chosen = graph.signatures[signature]
    borders = [*chosen.inputs.items(), *chosen.outputs.items()]
    names = {tensor.index: name for name, tensor in borders}
    return Entry(signature, chosen.subgraph, graph.subgraphs[chosen.subgraph], names)


def borders(graph: Graph, entry: Entry) -> tuple[tuple[Border, ...], tuple[Border, ...]]:
    """Inputs and outputs of a model in the file's order, for who runs it without compiling; values count them."""
    try:
        subgraph = simplified(graph, entry.number)  # for shapes that the file leaves open
    except Unsupported:
        subgraph = entry.subgraph
    inputs = tuple(_border(t, entry.names.get(t.index, t.name), i) for i, t in enumerate(_tensors(subgraph, "inputs")))
    return inputs, _outputs(subgraph, entry, range(len(subgraph.outputs)))


def _tensors(subgraph: Subgraph, side: str) -> list[Tensor]:
    return [subgraph.tensors[index] for index in getattr(subgraph, side)]


def _outputs(subgraph: Subgraph, entry: Entry, values: Sequence[int]) -> tuple[Border, ...]:
    """The outputs, whose names are those of the file's tensors, wherever they are computed."""
    named = [entry.names.get(t.index, t.name) for t in _tensors(entry.subgraph, "outputs")]
    tensors = _tensors(subgraph, "outputs")
    return tuple(_border(tensor, name, v) for tensor, name, v in zip(tensors, named, values, strict=True))


def _border(tensor: Tensor, name: str, value: int) -> Border:
    form = tensor.quantization
    quantized = form is not None and form.scale.size == 1 and not form.details and float(form.scale[0]) > 0
    return Border(
        name=name,
        value=value,
        dtype=tensor.dtype,
        shape=tensor.shape,
        scale=float(form.scale[0]) if quantized and form is not None else None,
        zero_point=int(form.zero_point[0]) if quantized and form is not None else 0,
    )


class _Lowering:
    """One subgraph on its way into calls; `refused` are the operators that cannot go that way."""

    def __init__(self, graph: Graph, entry: Entry) -> None:
        self.entry = entry
        self.alias: dict[int, int] = {}  # a tensor -> the one whose memory it is
        self.calls: list[tuple[Operator, Call]] = []
        self.refused: list[Refusal] = []
        self.subgraph = self._simplified(graph)
        for operator in _needed(self.subgraph):
            try:
                self._lower(operator)
            except Unsupported as error:
                self._refuse(operator, error)
            except MALFORMED:
                self._refuse(operator, Unsupported("its operands or options are not those that this operator has"))

    def _simplified(self, graph: Graph) -> Subgraph:
        """The subgraph without loops and what constants decide; without its loops alone, each refused, where it has one
        that cannot be unrolled.
        """
        subgraph = self.entry.subgraph
        try:
            return simplified(graph, self.entry.number)
        except Unsupported as error:
            loops = [operator for operator in subgraph.operators if operator.op == "WHILE"] or subgraph.operators[:1]
            for operator in loops:
                self._refuse(operator, error)
            return replace(subgraph, operators=tuple(o for o in subgraph.operators if o not in loops))

    def _refuse(self, operator: Operator, error: Unsupported) -> None:
        name = self.entry.subgraph.tensors[operator.outputs[0]].name if self._is_of_the_file(operator) else ""
        hint = error.hint or HINTS.get(operator.op, ON_HOST)
        number = next((o.index for o in self.entry.subgraph.operators if o.outputs == operator.outputs), operator.index)
        self.refused.append(Refusal(number, operator.op, name, error.reason, hint))

    def _is_of_the_file(self, operator: Operator) -> bool:
        return bool(operator.outputs) and operator.outputs[0] < len(self.entry.subgraph.tensors)

    def program(self) -> PlainProgram:
        """The program, once nothing was refused; UserError for a model that computes nothing."""
        subgraph = self.subgraph
        constant = [t for t in subgraph.outputs if subgraph.tensors[self._home(t)].data is not None]
        if constant or not subgraph.outputs:
            name = f"its output {subgraph.tensors[constant[0]].name[:60]!r}" if constant else "it has no output, which"
            raise UserError(f"there is nothing to compile: {name} is stored in the file", "is it the right file?")
        number: dict[int, int] = {}
        for tensor in (*subgraph.inputs, *(t for _, call in self.calls for t in (*call.inputs, *call.outputs))):
            number.setdefault(self._home(tensor), len(number))
        for tensor in subgraph.outputs:
            number.setdefault(self._home(tensor), len(number))
        tensors = [subgraph.tensors[index] for index in number]
        place = {tensor: number[self._home(tensor)] for tensor in (*subgraph.inputs, *subgraph.outputs)}
        names, inputs = self.entry.names, _tensors(subgraph, "inputs")
        return PlainProgram(
            calls=tuple(self._numbered(call, number) for _, call in self.calls),
            values=tuple(Value(tensor.dtype, tensor.shape) for tensor in tensors),
            inputs=tuple(dict.fromkeys(place[t] for t in subgraph.inputs)),
            outputs=tuple(dict.fromkeys(place[t] for t in subgraph.outputs)),
            head=len(self.calls),
            borders_in=tuple(_border(t, names.get(t.index, t.name), place[t.index]) for t in inputs),
            borders_out=_outputs(subgraph, self.entry, [place[t] for t in subgraph.outputs]),
            states=tuple((number[t.index], _first_byte(t)) for t in tensors if t.is_variable),
            shapes=tuple(tuple(subgraph.tensors[t].shape for t in call.inputs) for _, call in self.calls),
            operators=tuple(operator.index for operator, _ in self.calls),
        )

    def _numbered(self, call: Call, number: Mapping[int, int]) -> Call:
        inputs = tuple(number[self._home(t)] for t in call.inputs)
        return replace(call, inputs=inputs, outputs=tuple(number[self._home(t)] for t in call.outputs))

    def _home(self, tensor: int) -> int:
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def _lower(self, operator: Operator) -> None:
        for index in operator.outputs:
            _check_value(self.subgraph.tensors[index])
        if operator.op in ALIASES:
            self._see_otherwise(operator)
            return
        inputs = [self.subgraph.tensors[index] for index in operator.inputs if index >= 0]
        if not shapes.follows(operator, inputs, self.subgraph.tensors[operator.outputs[0]]):
            raise Unsupported("its output has not the elements that its inputs make")
        call = _call(operator, self.subgraph)
        for index in (*call.inputs, *call.outputs):
            _check_value(self.subgraph.tensors[index])
        self.calls.append((operator, call))

    def _see_otherwise(self, operator: Operator) -> None:
        """The output is the input's memory; what the file says of both must agree."""
        if len(operator.outputs) != 1 or not operator.inputs or operator.inputs[0] < 0:
            raise Unsupported("it has not one input and one output")
        before, after = (self.subgraph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        if math.prod(before.shape) != math.prod(after.shape) or before.dtype != after.dtype:
            raise Unsupported(
                f"it makes {after.dtype}{list(after.shape)} of {before.dtype}{list(before.shape)}",
                "shapes must be known when the model is converted: give the converter a fixed batch and length",
            )
        if before.is_variable or after.is_variable or after.index in self.subgraph.inputs:
            raise Unsupported("it is of a tensor that lives from one inference to the next")
        self.alias[after.index] = before.index


def _needed(subgraph: Subgraph) -> list[Operator]:
    """Those operators, in order, that an output or a variable depends on and that constants do not replace."""
    live = set(subgraph.outputs)
    needed = []
    for operator in reversed(subgraph.operators):
        computed = [t for t in operator.outputs if subgraph.tensors[t].data is None]
        inputs = [t for t in operator.inputs if t >= 0]
        changes = any(subgraph.tensors[t].is_variable for t in (*inputs, *operator.outputs))
        if not computed and operator.outputs or not changes and not live.intersection(computed):
            continue
        needed.append(operator)
        live.update(inputs[:1] if operator.op in ALIASES else inputs)
    return needed[::-1]


def _call(operator: Operator, subgraph: Subgraph) -> Call:
    """The call that an op makes of an operator; Unsupported with the reasons of all that might take it."""
    if operator.op not in _operators():
        instead = ALTERNATIVES.get(operator.op)
        hint = f"build the model with {instead} instead; {ON_HOST}" if instead else ""
        raise Unsupported("it is not among the operators that compile", hint)
    return ops.lower(operator, subgraph)


@functools.cache
def _operators() -> frozenset[str]:
    """Operators that some op may take."""
    return frozenset(operator for name in ops.names() for operator in getattr(ops.load(name), "OPERATORS", ()))


def supported() -> tuple[str, ...]:
    """The operators that boards compute, by their names in the schema."""
    return tuple(sorted({*_operators(), *ALIASES}))


def _check_value(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise Unsupported(f"its tensor is {tensor.dtype}", f"boards compute {', '.join(DTYPES)}")
    if not 0 < math.prod(tensor.shape) <= MOST_ELEMENTS:
        raise Unsupported(
            f"its tensor has the shape {list(tensor.shape)}", "convert the model with fixed shapes that have elements"
        )


def _first_byte(tensor: Tensor) -> int:
    """What fills a variable at the start: zero, as a stored number."""
    form = tensor.quantization
    return int(form.zero_point[0]) & 0xFF if tensor.dtype == "int8" and form is not None and form.scale.size else 0


def refusal(subgraph: Subgraph, number: int, error: Unsupported) -> Refusal:
    """What is said of operator `number` of the file, or one behind it where loops were unrolled."""
    operator = subgraph.operators[number] if number < len(subgraph.operators) else None
    op, outputs = (operator.op, operator.outputs) if operator else ("WHILE", ())
    name = subgraph.tensors[outputs[0]].name if outputs else ""
    return Refusal(number, op, name, error.reason, error.hint or HINTS.get(op, ON_HOST))


def not_supported(refused: Sequence[Refusal]) -> UserError:
    """The one error that names them."""
    first, others = refused[0], list(dict.fromkeys(r.op for r in refused[1:]))
    more = f"; nor {len(refused) - 1} more: {', '.join(others[:MOST_NAMED])}" if others else ""
    more += " …" if len(others) > MOST_NAMED else ""
    return UserError(
        f"boards do not compute operator {first.operator}, {first.op} (tensor {first.tensor[:60]!r}): "
        f"{first.reason}{more}",
        first.hint,
    )
