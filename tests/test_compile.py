"""Generated C: what it says, that every compiler takes it, and that it computes what the numpy model of it does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from native import HOST, Native, same_bits

from edge.make.convert import convert
from firmware_tools import boards, build, fuse, graph, interpret
from firmware_tools.bfp_program import for_board
from firmware_tools.c_text import Constants, c_string, weights_c
from firmware_tools.compile import compile_model, needs
from firmware_tools.emulators import unicorn
from firmware_tools.errors import DoesNotFit, UserError

M4 = boards.load("virtual-m4")
SCHEMES = ("int8", "float32")


def model(scheme: str = "int8", context: int = 24) -> graph.Graph:
    return graph.read(convert(tiny.checkpoint(context=context), scheme))


def tokens(read: graph.Graph, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(7).integers(0, read.card["architecture"]["vocab_size"], count)]


def assert_equal_to_numpy(
    read: graph.Graph,
    context: int,
    step: Callable[[int, int], np.ndarray],
    count: int | None = None,
    board: boards.Board = M4,
) -> None:
    """step(token, position) gives, bit for bit, the logits of the numpy model of the device."""
    program = for_board(fuse.program(read, context), board)
    run = interpret.start(program)
    for position, token in enumerate(tokens(read, context if count is None else count)):
        expected = interpret.step(program, run, token, position)
        assert same_bits(step(token, position), expected), f"the logits differ at position {position}"


# --- the text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_model_c_is_a_list_of_calls(scheme: str) -> None:
    read = model(scheme)
    text = compile_model(read, M4).files["model.c"]
    body = text[text.index("void edge_step") :]
    called = re.findall(r"^    edge_(\w+?)_(?:f32|s8)(?:_dsp(?:_8|_long)?)?\(", body, re.MULTILINE)
    assert called == [call.op for call in fuse.program(read).calls]
    assert re.findall(r"/\* (layer \d+|logits) \*/", body) == ["layer 0", "layer 1", "logits"]
    cached, rest = body.split("if (!want_logits) return;")
    assert cached.count(" edge_attention_") == 2 and rest.count(" edge_attention_") == 0


def test_the_same_model_gives_the_same_text() -> None:
    assert compile_model(model(), M4) == compile_model(model(), M4)


def test_features_choose_the_kernels() -> None:
    with_dsp, without = compile_model(model(), M4), compile_model(model(), HOST)
    assert "_dsp(" in with_dsp.files["model.c"] and "_dsp(" not in without.files["model.c"]
    more = {path.name for path in with_dsp.kernels} - {path.name for path in without.kernels}
    assert {"fully_connected_dsp.c", "attention_dsp.c"} <= more and all(name.endswith("_dsp.c") for name in more)


def test_sizes() -> None:
    whole, short = compile_model(model(), M4), compile_model(model(), M4, 12)
    assert short.context == 12 and short.kv_cache_bytes < whole.kv_cache_bytes
    assert short.weight_bytes < whole.weight_bytes  # the RoPE tables shrink as well
    declared = re.findall(r"extern const (\w+?)(\d*)(?:_t)? w_\d+\[(\d+)\]", whole.files["weights.h"])
    assert whole.weight_bytes == sum(int(count) * (int(bits) // 8 if bits else 4) for _, bits, count in declared)
    assert f"edge_arena[{whole.arena_bytes}]" in whole.files["memory.c"]
    assert f"edge_kv_cache[{whole.kv_cache_bytes}]" in whole.files["memory.c"]


def test_tied_head_shares_the_embedding() -> None:
    tied = compile_model(graph.read(convert(tiny.checkpoint())), M4)
    untied = compile_model(graph.read(convert(tiny.checkpoint(tied=False))), M4)
    assert untied.weight_bytes - tied.weight_bytes == 300 * 32 + 4 * 300


def test_needs_are_those_of_the_sources() -> None:
    sources = compile_model(model(), M4, 12)
    assert all(getattr(sources, name) == value for name, value in asdict(needs(model(), M4, 12)).items())


def test_weights_larger_than_flash_are_refused() -> None:
    small = replace(M4, flash=boards.Memory(0, 20_000))
    missing = needs(model(), small).weight_bytes + needs(model(), small).vocabulary_bytes - 20_000
    with pytest.raises(DoesNotFit, match=f"tiny does not fit virtual-m4: {missing:,} bytes of flash are missing"):
        compile_model(model(), small)


def test_context_out_of_range() -> None:
    with pytest.raises(UserError, match="out of range"):
        compile_model(model(), M4, 25)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_strings_come_back(data: bytes) -> None:
    literal = c_string(data)
    assert literal.isascii() and "?" not in literal  # no trigraphs
    lines = literal.split("\n")
    assert all(line.strip().isprintable() for line in lines)
    assert b"".join(ast.literal_eval("b" + line.strip()) for line in lines) == data


def test_floats_are_exact() -> None:
    specials = [0.0, -0.0, 1.0, -1e-45, 1.1754944e-38, 3.4028235e38, 0.1, 2.0**-126, np.pi]
    random = np.random.default_rng(1).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    values = np.array([*specials, *random[np.isfinite(random)]], np.float32)
    constants = Constants()
    constants.name(values, "test")
    text = weights_c(constants)
    numbers = re.findall(r"-?0x[0-9a-fp.+-]+(?=f,)", text)
    assert same_bits(np.array([float.fromhex(number) for number in numbers], np.float32), values)


def test_integers_are_exact() -> None:
    constants = Constants()
    arrays = [np.arange(-128, 128, dtype=np.int8), np.arange(256, dtype=np.uint8), np.array([-(2**31), 7], np.int32)]
    names = [constants.name(array, "test") for array in arrays]
    text = weights_c(constants)
    for name, array in zip(names, arrays, strict=True):
        body = re.search(rf"\b{name}\[.*?= {{(.*?)}};", text, re.DOTALL)
        assert body and [int(number) for number in body[1].split(",") if number.strip()] == array.tolist()


def test_equal_constants_are_one_array() -> None:
    constants = Constants()
    ones = np.ones(8, np.float32)
    assert constants.name(ones, "a") == constants.name(ones.copy(), "b")
    assert constants.name(ones.astype(np.int8), "c") != constants.name(ones.reshape(2, 4), "d")
    assert len(constants.arrays) == 3


# --- what it computes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_native_equals_numpy(scheme: str, tmp_path: Path) -> None:
    """Twice: as fast as can be, and with undefined behaviour ending the process."""
    read = model(scheme)
    for sanitize in (False, True):
        native = Native(compile_model(read, HOST), tmp_path, sanitize)
        assert_equal_to_numpy(read, 24, native.step)


SHAPES = ({"kv_heads": 1}, {"kv_heads": 4, "context": 23}, {"heads": 8, "hidden_dim": 43})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_shapes(shape: dict[str, int], tmp_path: Path) -> None:
    read = graph.read(convert(tiny.checkpoint(tied=False, **shape)))
    native = Native(compile_model(read, HOST, 19), tmp_path, sanitize=True)
    assert_equal_to_numpy(read, 19, native.step)


def test_steps_without_logits_fill_the_cache_alike(tmp_path: Path) -> None:
    read = model()
    native = Native(compile_model(read, HOST), tmp_path)
    ids = tokens(read, 12)
    full = [native.step(token, position) for position, token in enumerate(ids)]
    for position, token in enumerate(ids[:-1]):
        native.step(token, position, want_logits=False)
    assert same_bits(native.step(ids[-1], 11), full[-1])
    assert same_bits(native.step(ids[3], 3), full[3])  # going back needs nothing but the cache below


@pytest.mark.parametrize("scheme", SCHEMES)
def test_emulated_cortex_equals_numpy(scheme: str) -> None:
    read = model(scheme)
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        assert_equal_to_numpy(read, 24, lambda token, position: forward(link, token, position))


def forward(link: object, token: int, position: int) -> np.ndarray:
    link.forward(token, position)  # type: ignore[attr-defined]
    logits: np.ndarray = link.logits()  # type: ignore[attr-defined]
    return logits


# --- the facts


def test_facts_reach_the_runtime(tmp_path: Path) -> None:
    read = graph.read(convert(tiny.checkpoint(card={"template": {"before": "Q: ", "after": "\nA:"}})))
    sources = compile_model(read, HOST, 20)
    facts = Native(sources, tmp_path).facts
    assert (facts.vocab_size, facts.context, facts.bos_id) == (300, 20, 1)
    assert facts.stop_ids[: facts.stop_count] == [1, 2]
    assert (facts.before, facts.after, facts.name) == (b"Q: ", b"\nA:", b"tiny")
    assert facts.sha256.decode() == read.sha256 == sources.model_sha256
    assert json.loads(facts.info) == {
        "kind": "decoder",
        "model": read.sha256,
        "name": "tiny",
        "contract": "1.0",
        "vocab_size": 300,
        "context": 20,
        "layers": 2,
        "bos_id": 1,
        "stop_ids": [1, 2],
        "arena_bytes": sources.arena_bytes,
        "kv_cache_bytes": sources.kv_cache_bytes,
        "weight_bytes": sources.weight_bytes,
        "vocabulary_bytes": sources.vocabulary_bytes,
        "can_encode": sources.can_encode,
    }


def test_a_model_without_special_tokens(tmp_path: Path) -> None:
    read = graph.read(convert(tiny.checkpoint(card={"bos_id": None, "stop_ids": []})))
    facts = Native(compile_model(read, HOST), tmp_path).facts
    assert facts.bos_id == 0xFFFFFFFF and facts.stop_count == 0
    assert json.loads(facts.info)["bos_id"] is None


# --- compilers


@pytest.mark.system
@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_compiler_takes_it(scheme: str, tool: Callable[[str], str], tmp_path: Path) -> None:
    """zig's clang has built it above; gcc warns of other things."""
    gcc = tool("arm-none-eabi-gcc")
    sources = compile_model(model(scheme), M4)
    for name, text in sources.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="\n")
    includes = [f"-I{folder}" for folder in (tmp_path, *sources.includes)]
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-std=c11", "-ffp-contract=off"]
    warnings = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wtrigraphs"]
    for name in (name for name in sources.files if name.endswith(".c")):
        command = [gcc, *flags, *warnings, *includes, "-c", str(tmp_path / name), "-o", str(tmp_path / "out.o")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
