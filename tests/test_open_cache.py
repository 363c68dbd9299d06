"""A cache whose length is left open: the same logits at every length, what a file says of it, and who refuses what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import remodel
import tiny
from lite import RESOLVERS, Model

from edge.make import lengths
from edge.make.convert import _lengths, convert, convert_to, save
from edge.make.quantize import STATIC
from edge.run.host import facts_of, open_host
from firmware_tools import contract, graph
from firmware_tools.errors import BadFile
from firmware_tools.link import LinkError
from firmware_tools.mapped import Malformed
from firmware_tools.sampler import Sampler

CONTEXT, PREFILL = tiny.SHAPE.context, 5
LONG = 160  # more than two of the steps by which the agent lets a cache grow
MIB = 1 << 20
TOKENS = [int(token) for token in np.random.default_rng(1).integers(3, tiny.SHAPE.vocab_size, CONTEXT)]


@cache
def file_of(scheme: str, open_cache: bool, context: int = CONTEXT) -> bytes:
    return convert(tiny.checkpoint(context=context), scheme, prefill=PREFILL, open_cache=open_cache)


# ------------------------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("kernels", sorted(RESOLVERS))
@pytest.mark.parametrize("scheme", ["float32", "float16", "int8"])
def test_at_its_default_length_it_is_the_fixed_one(scheme: str, kernels: str) -> None:
    """Bit for bit, also where rows that are not filled hold something else."""
    fixed, opened = (Model(file_of(scheme, open_cache), kernels, filling=9.0) for open_cache in (False, True))
    assert_equal_texts(fixed, opened, CONTEXT, 0.0)


@pytest.mark.parametrize("kernels", sorted(RESOLVERS))
@pytest.mark.parametrize("slots", [1, 4, 7, 23])
def test_at_another_length_it_is_the_fixed_one(slots: int, kernels: str) -> None:
    """Up to the position where the cache is full; float32: sums of other lengths differ in their last digits."""
    fixed, opened = Model(file_of("float32", False), kernels), Model(file_of("float32", True), kernels, 9.0, slots)
    assert_equal_texts(fixed, opened, slots, 1e-5)


def assert_equal_texts(fixed: Model, opened: Model, positions: int, atol: float) -> None:
    """At each position a prefill that begins there, and a token whose new rows stay."""
    for position in range(positions):
        part = TOKENS[position : min(position + PREFILL, positions)]
        np.testing.assert_allclose(opened.prefill(part, position), fixed.prefill(part, position), rtol=0, atol=atol)
        token = TOKENS[position]
        np.testing.assert_allclose(opened.decode(token, position), fixed.decode(token, position), rtol=0, atol=atol)
        for name, rows in opened.caches.items():
            expected = fixed.caches[name][:, : position + 1]
            np.testing.assert_allclose(rows[:, : position + 1], expected, rtol=0, atol=atol)


def greedy(folder: Path, open_cache: bool, kernels: str) -> list[int]:
    """Texts over all borders by the agent: to the end of the context, and once more from within the second length."""
    path = folder / f"{open_cache}.tflite"
    wordy = tiny.checkpoint(tied=False, card={"stop_ids": []}, context=LONG)
    save(convert(wordy, "float32", prefill=PREFILL, open_cache=open_cache), path)
    with open_host(path, kernels=kernels) as link:
        assert link.hello().context == LONG
        link.prefill(TOKENS[:9])
        ids = [step.id for step in link.generate(LONG, Sampler(), seed=True)]
        link.prefill(TOKENS, 60)  # over the first border
        return ids + [step.id for step in link.generate(LONG, Sampler(), seed=True)]


def test_the_agent_gives_one_text(tmp_path: Path) -> None:
    """In CompiledModel, which sees short caches, and with reference kernels in the Interpreter, which sees all."""
    fixed = greedy(tmp_path, False, "xnnpack")
    assert len(fixed) == LONG - 9 + LONG - 60 - CONTEXT and len(set(fixed)) > 20
    assert greedy(tmp_path, True, "xnnpack") == fixed
    assert greedy(tmp_path, True, "reference") == fixed


# ------------------------------------------------------------------------------------------------- what the file says


def test_the_file_says_its_version_and_what_is_open() -> None:
    fixed, opened = (graph.read(file_of("int8", open_cache)) for open_cache in (False, True))
    assert (fixed.contract, opened.contract) == ("1.0", "1.1")
    assert fixed.card == opened.card
    assert list(fixed.signatures) == list(opened.signatures) == ["decode", "prefill"]
    for name, signature in opened.signatures.items():
        before = fixed.signatures[name]
        for tensor in (*signature.inputs, *signature.outputs):
            ours, theirs = (one.inputs.get(tensor) or one.outputs[tensor] for one in (signature, before))
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            is_cache = tensor[:2] in ("k_", "v_") and "new" not in tensor
            assert (ours.shape_signature, theirs.shape_signature) == ((-1,) if is_cache else (), ())


def test_it_takes_little_more_of_a_file() -> None:
    assert len(file_of("int8", True)) - len(file_of("int8", False)) < 1000


def test_convert_to_writes_the_same_bytes(tmp_path: Path) -> None:
    convert_to(tmp_path / "m.tflite", tiny.checkpoint(), prefill=PREFILL, open_cache=True)
    assert (tmp_path / "m.tflite").read_bytes() == file_of("int8", True)


# ------------------------------------------------------------------------------------------------------ who has one


def is_open(data: bytes) -> bool:
    model = graph.read(data)
    assert model.contract == ("1.1" if model.signatures["decode"].inputs["k_0"].shape_signature else "1.0")
    return model.contract == "1.1"


@pytest.mark.parametrize(("weight_bytes", "expected"), [(8 * MIB - 1, (False, 16)), (8 * MIB, (True, 64))])
def test_large_models_have_one(weight_bytes: int, expected: tuple[bool, int]) -> None:
    shape = tiny.checkpoint(context=4096).architecture
    chosen = lengths.chosen(shape, weight_bytes)
    assert (chosen.open_cache, chosen.prefill) == expected and chosen.context == 2048
    for wanted in (False, True):
        assert lengths.chosen(shape, weight_bytes, open_cache=wanted).open_cache is wanted


def test_small_ones_have_one_where_that_is_asked() -> None:
    assert not is_open(convert(tiny.checkpoint(context=2048)))
    assert is_open(convert(tiny.checkpoint(), open_cache=True))


def test_by_the_size_of_what_is_stored() -> None:
    """The same checkpoint with 8.7 MB of weights, as int8 with a quarter of that, and for the older runtime."""
    large = tiny.checkpoint(dim=256, hidden_dim=2400, layers=1)
    assert is_open(convert(large, "float32")) and not is_open(convert(large, "float32", open_cache=False))
    assert not is_open(convert(large, "int8"))
    assert not is_open(convert(large, "float32", runtime="2.14"))


def test_never_where_nothing_would_use_it() -> None:
    assert not is_open(convert(tiny.checkpoint(), "int8", runtime="2.14", open_cache=True))
    static = [_lengths(tiny.checkpoint(), scheme, None, None, None, True) for scheme in STATIC]
    assert static and not any(chosen.open_cache for chosen in static)


# ---------------------------------------------------------------------------------------------------- what is refused


def sign(names: str, signature: list[int] | None, where: str = "decode prefill") -> Callable[[Any], None]:
    """A change of the shape signatures of these tensors at the border of these signatures."""

    def change(model: Any) -> None:
        for each in model.signatureDefs:
            if each.signatureKey.decode() in where.split():
                tensors = model.subgraphs[each.subgraphIndex].tensors
                border = {entry.name.decode(): tensors[entry.tensorIndex] for entry in (*each.inputs, *each.outputs)}
                for name in set(names.split()) & set(border):
                    border[name].shapeSignature = signature

    return change


CACHES = "k_0 k_1 v_0 v_1"
CHANGES = {
    "one cache is fixed": (True, sign("k_0", None)),
    "the values' caches are fixed": (True, sign("v_0 v_1", None)),
    "one cache of prefill is fixed": (True, sign("v_1", None, "prefill")),
    "decode is fixed": (True, sign(CACHES, None, "decode")),
    "prefill is fixed": (True, sign(CACHES, None, "prefill")),
    "a cache of two axes": (True, sign("v_1", [-1, -1])),
    "a cache of an axis and one of four": (True, sign("v_1", [-1, 4])),
    "token": (True, sign("token", [-1])),
    "tokens": (True, sign("tokens", [-1])),
    "logits": (True, sign("logits", [-1])),
    "new rows": (True, sign("k_new_1", [-1])),
    "one cache is open": (False, sign("k_0", [-1])),
    "the keys' caches are open": (False, sign("k_0 k_1", [-1])),
    "decode is open": (False, sign(CACHES, [-1], "decode")),
    "token alone": (False, sign("token", [-1])),
    "logits alone": (False, sign("logits", [-1])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_anything_else_that_is_open_is_refused(change: str) -> None:
    open_cache, edit = CHANGES[change]
    data = file_of("int8", open_cache)
    assert is_open(remodel.edited(data, lambda model: None)) is open_cache
    with pytest.raises(BadFile, match="(decode|prefill) leaves open other lengths than those of its caches"):
        graph.read(remodel.edited(data, edit))


@pytest.mark.parametrize(
    ("signature", "tensor", "value"),
    [("decode", "k_0", None), ("decode", "token", (-1,)), ("prefill", "", None), ("prefill", "v_1", (-1, -1))],
)
def test_the_contract_itself_refuses(signature: str, tensor: str, value: tuple[int, ...] | None) -> None:
    model = graph.read(file_of("int8", True))
    borders = {
        name: tuple({key: (t.dtype, t.shape) for key, t in side.items()} for side in (one.inputs, one.outputs))
        for name, one in model.signatures.items()
    }
    all_open: dict[str, Any] = {name: dict.fromkeys(CACHES.split(), (-1,)) for name in borders}
    assert contract.check(model.metadata, borders, all_open)[0] == "1.1"
    changed = {**all_open[signature], tensor: value}
    all_open[signature] = {key: kept for key, kept in changed.items() if kept} if tensor else {}
    with pytest.raises(Malformed, match=f"{signature} leaves open"):
        contract.check(model.metadata, borders, all_open)


def test_a_signature_that_leaves_nothing_open_is_a_fixed_length(tmp_path: Path) -> None:
    size = CONTEXT * tiny.SHAPE.kv_heads * tiny.SHAPE.head_dim
    path = tmp_path / "m.tflite"
    for signature, expected in ((None, False), ([size], False), ([-1], True)):
        path.write_bytes(remodel.edited(file_of("int8", False), sign(CACHES, signature)))
        assert facts_of(path, graph.read(path))["open_cache"] is expected


def test_a_file_that_promises_more_than_its_graph_keeps_is_one_error(tmp_path: Path) -> None:
    """The graph of a fixed cache whose file says that it is open."""
    path = tmp_path / "m.tflite"
    path.write_bytes(remodel.edited(file_of("int8", False, LONG), sign(CACHES, [-1])))
    assert graph.read(path).contract == "1.0"
    with pytest.raises(LinkError) as error, open_host(path) as link:
        link.prefill(TOKENS[:9])
    assert "\n" not in error.value.message


# ------------------------------------------------------------------------------------------------------------ memory

MEASURE = """
import sys
from pathlib import Path
from edge.run.agent.decoder_model import DecoderModel
from edge.run.agent.runtimes import find_runtime

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

runtime, start = find_runtime(), anonymous()
model = DecoderModel(Path(sys.argv[1]), int(sys.argv[2]), 1, runtime, step=64)
model.prefill([5, 6, 7], 62)
model.decode(5, 65)
short = anonymous()
model._current = model._length_for(model.context)
model._memory[:] = 0.5  # as if all were filled
full = anonymous()
model.prefill([5, 6], model.context - 3)
model.decode(5, model.context - 1)
print(model.kv_cache_bytes, short - start, full - short, anonymous() - full)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_what_is_filled(tmp_path: Path) -> None:
    """64 MiB of cache: a start and a short text touch little of it, and a text to its end makes no second one."""
    path = tmp_path / "m.tflite"
    long = tiny.checkpoint(layers=8, heads=4, kv_heads=4, head_dim=64, context=4096)
    save(convert(long, "int8", 4096, 2, open_cache=True), path)
    child = subprocess.run([sys.executable, "-c", MEASURE, path, "4"], capture_output=True, text=True, check=True)
    cache_bytes, short, filled, run = map(int, child.stdout.split())
    assert cache_bytes == 64 * MIB and filled > 0.9 * cache_bytes, "else the measure does not see what is touched"
    assert short < cache_bytes / 2 and run < cache_bytes / 4
