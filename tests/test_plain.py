"""Plain models as firmware on virtual-m4 and in LiteRT on the host: outputs equal TFLite's reference kernels bit for
bit; the requests of the link, MLPerf Tiny's lines, and what an inference costs."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_models
import pytest
import tiny
from native import HOST, same_bits
from plain_models import Lite, stored
from test_lstm import SIZES, lstm_model

from edge.make.convert import convert
from edge.run.host import open_host
from firmware_tools import boards, build, compile, elf, emulators, graph, interpret, lower
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.errors import DoesNotFit, LinkError, UserError
from firmware_tools.frames import Kind
from firmware_tools.link import Link
from firmware_tools.program import Border, PlainProgram

M4 = boards.load("virtual-m4")
MADE = {"classifier": plain_models.classifier(), "two_inputs": plain_models.two_inputs()}
# instructions: 0.6 of what TensorFlow Lite Micro with CMSIS-NN takes (7,698,707, 1,495,503, 583,243, 3,619), of ad01
# .52 and of hello_world .35; bytes: its arena
BUDGETS = {
    "kws_ref_model": (4_620_000, 23_316),
    "micro_speech_quantized": (897_000, 7_316),
    "ad01_int8": (303_000, 3_060),
    "hello_world_int8": (1_266, 1_252),
}
CODE_BYTES = 20 << 10  # of any of them, runtime included
EMULATORS = ["unicorn", pytest.param("qemu", marks=pytest.mark.system)]


def image_of(content: bytes) -> build.Image:
    return build.build(compile_model(graph.read(content), M4), M4)


@pytest.fixture(scope="module")
def images() -> dict[str, build.Image]:
    return {name: image_of(content) for name, content in MADE.items()}


def ask(
    link: Link, borders: tuple[Border, ...], inputs: list[np.ndarray] | None
) -> tuple[int | None, list[np.ndarray]]:
    """One inference: ticks, and the outputs."""
    ticks = link.invoke(None if inputs is None else b"".join(array.tobytes() for array in inputs))
    outputs = [np.frombuffer(link.output(i, b.size_bytes), b.dtype).reshape(b.shape) for i, b in enumerate(borders)]
    return ticks, outputs


def assert_equals_lite(link: Link, content: bytes, program: PlainProgram, count: int) -> list[int | None]:
    """Outputs for random inputs are those of TFLite's reference kernels, bit for bit; returns ticks."""
    lite, costs = Lite(content), []
    for seed in range(count):
        inputs = [stored(border.shape, seed, border.dtype) for border in program.borders_in]
        ticks, found = ask(link, program.borders_out, inputs)
        costs.append(ticks)
        assert all(same_bits(a, b) for a, b in zip(found, lite.run(*inputs), strict=True)), f"seed {seed}"
    return costs


# --- what it computes


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize("name", MADE)
def test_firmware_equals_the_reference_kernels(name: str, emulator: str, images: dict[str, build.Image], tool) -> None:  # type: ignore[no-untyped-def]
    if emulator == "qemu":
        tool("qemu-system-arm")
    with emulators.load(emulator).open(images[name], True) as link:
        assert_equals_lite(link, MADE[name], lower.program(graph.read(MADE[name])), 5)


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize("name", BUDGETS)
def test_models_of_others(name: str, emulator: str, shared_data: Path, tool) -> None:  # type: ignore[no-untyped-def]
    """Bit for bit, and within 0.6 of TensorFlow Lite Micro's instructions and its arena."""
    if emulator == "qemu":
        tool("qemu-system-arm")
    content = (shared_data / "tflite" / f"{name}.tflite").read_bytes()
    image = image_of(content)
    most_instructions, most_arena_bytes = BUDGETS[name]
    with emulators.load(emulator).open(image, True) as link:
        costs = assert_equals_lite(link, content, lower.program(graph.read(content)), 3)
        instructions = max(int(cost * link.clock.per_tick) for cost in costs if cost is not None)
    print(f"{name}: {instructions:,} instructions, arena {image.sizes.arena_bytes:,}, code {image.sizes.code_bytes:,}")
    assert 0 < instructions <= most_instructions
    assert image.sizes.arena_bytes <= most_arena_bytes
    assert image.sizes.code_bytes <= CODE_BYTES
    assert image.sizes.stack_deepest_bytes is not None and image.sizes.stack_deepest_bytes <= M4.stack_bytes


@pytest.mark.parametrize("name", ["hello_world_float", "kws_ref_model_float32"])
def test_float_models_of_others(name: str, shared_data: Path) -> None:
    """Equal to numpy bit for bit; LiteRT adds in another order."""
    content = (shared_data / "tflite" / f"{name}.tflite").read_bytes()
    program, lite = lower.program(graph.read(content)), Lite(content)
    x = stored(program.borders_in[0].shape, 0, "float32")
    with unicorn.open(image_of(content)) as link:
        _, (found,) = ask(link, program.borders_out, [x])
    assert same_bits(found, interpret.Plain(program).invoke([x])[0])
    np.testing.assert_allclose(found, lite.run(x)[0], rtol=0, atol=1e-6)


def test_cost_does_not_depend_on_what_came_before(images: dict[str, build.Image]) -> None:
    """The same inputs, given once: an inference leaves them as they were, and takes as many instructions."""
    program = lower.program(graph.read(MADE["classifier"]))
    with unicorn.open(images["classifier"], True) as link:
        first = ask(link, program.borders_out, [stored((1, 8, 6, 1), 0)])
        again = [ask(link, program.borders_out, None) for _ in range(3)]
    assert all(ticks == first[0] and same_bits(found[0], first[1][0]) for ticks, found in again)


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "ubsan"])
def test_portable_kernels_on_this_machine(sanitize: bool, tmp_path: Path) -> None:
    """`edge_invoke` as a library: memory is the caller's."""
    sources = compile_model(graph.read(MADE["classifier"]), HOST)
    for name, text in sources.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = [tmp_path / "model.c", tmp_path / "weights.c", *sources.kernels]
    library = ctypes.CDLL(
        str(build.build_host(files, [tmp_path, *sources.includes], tmp_path / "model.so", sanitize=sanitize))
    )
    program = lower.program(graph.read(MADE["classifier"]))
    lowered = compile.plain_c.lower(graph.read(MADE["classifier"]), HOST)
    start = lowered.memory.offsets_bytes[program.borders_in[0].value]
    end = lowered.memory.offsets_bytes[program.borders_out[0].value]
    arena = np.zeros(sources.arena_bytes + 16, np.uint8)
    arena = arena[-arena.ctypes.data % 16 :][: sources.arena_bytes]
    lite = Lite(MADE["classifier"])
    for seed in range(10):
        x = stored((1, 8, 6, 1), seed)
        arena[start : start + x.size] = x.reshape(-1).view(np.uint8)
        library.edge_invoke(ctypes.c_void_p(arena.ctypes.data), None)
        assert same_bits(arena[end : end + 5].view(np.int8).reshape(1, 5), lite.run(x)[0])


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_state_lives_only_where_it_is_asked_for(kind: str) -> None:
    """An LSTM: every inference starts from its first state, unless INVOKE says to go on."""
    content = lstm_model(0, SIZES[0], kind)
    program = lower.program(graph.read(content))
    model = interpret.Plain(program)
    x = stored(program.borders_in[0].shape, 1, program.borders_in[0].dtype)
    fresh, gone_on = model.invoke([x])[0], model.invoke([x])[0]
    assert not same_bits(fresh, gone_on)
    with unicorn.open(image_of(content)) as link:
        for keep, expected in ((False, fresh), (False, fresh), (True, gone_on)):
            link.invoke(x.tobytes(), keep_state=keep)
            assert same_bits(np.frombuffer(link.output(0, fresh.nbytes), fresh.dtype).reshape(fresh.shape), expected)


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_language_model_of_plain_ops_on_the_board(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph in which nothing is recognised: the same runtime, numpy and the board agree bit for bit."""
    read = graph.read(convert(tiny.checkpoint(), scheme))
    fused = compile_model(read, M4)

    def nothing(*_: object) -> None:
        raise UserError("the compiler does not understand the model from operator 0 of decode (GATHER) on")

    monkeypatch.setattr(compile, "program", nothing)
    sources = compile_model(read, M4)
    assert sources.context == fused.context and "edge_attention" not in sources.files["model.c"]
    program = lower.unfused(read)
    run = interpret.start(program)
    with unicorn.open(build.build(sources, M4), True) as link:
        ids = [1, 40, 250, 7]
        link.prefill(ids)
        for position, token in enumerate(ids):
            expected = interpret.step(program, run, token, position).copy()
        assert same_bits(link.logits(), expected)
        link.forward(9, 1)  # back in the text
        interpret.step(program, run, 1, 0)
        assert same_bits(link.logits(), interpret.step(program, run, 9, 1))
    with pytest.raises(UserError, match="keeps its context of 24"):
        compile_model(read, M4, 12)


# --- the link


def test_hello(images: dict[str, build.Image]) -> None:
    with unicorn.open(images["two_inputs"]) as link:
        info = link.hello()
    assert (info.kind, info.name, info.vocab_size, info.context) == ("plain", "model", 0, 0)
    assert info.model == graph.read(MADE["two_inputs"]).sha256
    assert [(b.dtype, b.shape, b.zero_point) for b in info.inputs or ()] == [("int8", (1, 8), 0)] * 2
    assert [np.float32(b.scale or 0) for b in info.outputs or ()] == [np.float32(0.3)] * 2
    assert info.arena_bytes == images["two_inputs"].sizes.arena_bytes and not info.can_encode


def refusal(link: Link, kind: Kind, payload: bytes) -> str:
    with pytest.raises(LinkError) as caught:
        link._request(kind, payload, 10.0)
    return caught.value.message.partition("refuses: ")[2]


@pytest.fixture(params=["unicorn", "host"])
def link(request: pytest.FixtureRequest, images: dict[str, build.Image], tmp_path: Path) -> Iterator[Link]:
    """two_inputs on either target."""
    (tmp_path / "two.tflite").write_bytes(MADE["two_inputs"])
    board = request.param == "unicorn"
    with unicorn.open(images["two_inputs"]) if board else open_host(tmp_path / "two.tflite") as link:
        yield link


def test_requests_that_make_no_sense(link: Link) -> None:
    link.hello()
    assert refusal(link, Kind.OUTPUT, struct.pack("<II", 0, 0)) == "there are no outputs yet: INVOKE first"
    assert refusal(link, Kind.INPUT, struct.pack("<I", 16) + b"x") == "the inputs end at byte 16"
    assert refusal(link, Kind.INPUT, struct.pack("<I", 0) + bytes(17)) == "the inputs end at byte 16"
    assert refusal(link, Kind.INPUT, struct.pack("<I", 0xFFFFFFFF) + b"xy") == "the inputs end at byte 16"
    link.invoke(bytes(16))
    assert refusal(link, Kind.OUTPUT, struct.pack("<II", 2, 0)) == "outputs end before 2"
    assert refusal(link, Kind.OUTPUT, struct.pack("<II", 1, 2)) == "this output ends at byte 2"
    for kind, size in ((Kind.PREFILL, 8), (Kind.LOGITS, 4), (Kind.INPUT, 4), (Kind.INVOKE, 0), (Kind.OUTPUT, 4)):
        assert refusal(link, kind, bytes(size)).startswith("no request"), kind


def test_a_language_model_takes_no_inputs() -> None:
    with unicorn.open(image_of(convert(tiny.checkpoint()))) as link:
        assert link.hello().kind == "decoder"
        assert refusal(link, Kind.INVOKE, bytes(4)) == "no request has this form and kind 9"


def test_many_borders_do_not_fit_hello() -> None:
    """A model of so many inputs that HELLO has no room for them: it tells the rest."""
    maker = plain_models.Maker()
    names = [maker.tensor(f"x{i}", "int8", (1, 4), 0.05) for i in range(20)]
    for i, name in enumerate(names[1:]):
        maker.tensor(f"y{i}", "int8", (1, 4), 0.1)
        add = plain_models.fill(plain_models.schema.AddOptionsT(), fusedActivationFunction=0)
        maker.operator("ADD", (f"y{i - 1}" if i else "x0", name), (f"y{i}",), add)
    content = maker.content(names, ("y18",))
    with unicorn.open(image_of(content)) as link:
        info = link.hello()
        assert info.inputs is None and info.outputs is None
        assert_equals_lite(link, content, lower.program(graph.read(content)), 2)


# --- MLPerf Tiny's lines


def test_lines(images: dict[str, build.Image]) -> None:
    x = stored((1, 8, 6, 1), 5)
    with unicorn.open(images["classifier"]) as link:
        assert link.command("profile")[1] == "m-model-[model]"
        assert link.command("results") == ["e-[No results: infer first]"]
        assert link.command("infer 1 0") == ["e-[The inputs take 48 bytes: 0 are loaded]"]
        assert link.command("db load 49") == ["Supplied buffer size 49 exceeds maximum of 48"]
        assert link.command("db load 48") == ["m-[Expecting 48 bytes]"]
        assert link.command("infer 1 0") == ["e-[Load is not done]"]
        assert link.command(f"db {x.tobytes()[:31].hex()}") == []
        assert link.command(f"db {x.tobytes()[31:].hex()}") == ["m-load-done"]
        answer = link.command("infer 3 1", 30.0)
        assert [line.rpartition("-")[0] for line in answer[3:5]] == ["m-lap-us", "m-lap-us"]
        assert answer[:3] == ["m-warmup-start-1", "m-warmup-done", "m-infer-start-3"]
        assert answer[5] == "m-infer-done"
        assert link.command("results") == answer[6:]
    (expected,) = Lite(MADE["classifier"]).run(x)
    real = (expected.reshape(-1).astype(np.float32) + 128) / 256
    assert answer[6] == f"m-results-[{','.join(f'{value:.3f}' for value in real)}]"


def printed(values: np.ndarray) -> str:
    """The results of a model that gives its float32 inputs back."""
    maker = plain_models.Maker()
    maker.tensor("x", "float32", (1, values.size))
    maker.tensor("shape", "int32", (1,), data=np.int32([values.size]))
    maker.tensor("y", "float32", (values.size,))
    maker.operator("RESHAPE", ("x", "shape"), ("y",))
    with unicorn.open(image_of(maker.content(("x",), ("y",)))) as link:
        link.command(f"db load {values.nbytes}")
        for first in range(0, values.nbytes, 31):
            link.command(f"db {values.tobytes()[first : first + 31].hex()}")
        return link.command("infer 1 0")[-1]


def test_results_are_printed_as_printf_does() -> None:
    """Every rounding, ties to even among them."""
    random = np.random.default_rng(0)
    values = np.concatenate([
        random.standard_normal(100) * 10.0 ** random.integers(-6, 12, 100),
        np.arange(-20, 20) / 2000,  # near ties
        np.arange(-20, 20) / 16384,
        [0.0625, 0.1875, 0.0005, 0.0015, 1e-30, -1e-45, 8e15, 16777216.0, 0.9995, 999.9995, -0.0],
    ]).astype(np.float32)  # fmt: skip
    assert printed(values) == f"m-results-[{','.join(f'{value:.3f}' for value in values.tolist())}]"
    assert printed(np.float32([np.nan, np.inf, -np.inf, 1e20])) == "m-results-[nan,inf,-inf,inf]"


# --- the image


def test_nothing_of_language_models_is_linked(images: dict[str, build.Image]) -> None:
    names = {symbol.name for symbol in elf.read(images["classifier"].elf).symbols}
    assert not {"edge_encode", "edge_sample", "edge_piece", "edge_vocabulary", "session_decode"} & names
    assert {"edge_invoke", "plain_infer"} <= names
    assert "chat/chat.c" not in images["classifier"].files and "runtime/tokenizer.c" not in images["classifier"].files


def test_a_saved_image_is_loaded_again(images: dict[str, build.Image], tmp_path: Path) -> None:
    build.save(images["classifier"], tmp_path / "image")
    assert build.load(tmp_path / "image") == images["classifier"]


def test_the_same_model_gives_the_same_image(images: dict[str, build.Image]) -> None:
    assert image_of(MADE["classifier"]).sha256 == images["classifier"].sha256


def test_strings_of_the_file_do_not_reach_the_text() -> None:
    maker = plain_models.Maker()
    hostile = '*/ int main; /* " \\ \n ??/'
    maker.tensor(hostile, "int8", (1, 8), 0.05)
    plain_models.connected(maker, hostile, "y", (2, 8), 0, 0.3)
    sources = compile_model(graph.read(maker.content((hostile,), ("y",))), M4)
    assert all("int main" not in text for text in sources.files.values())


def test_a_model_too_large_is_refused_with_what_is_missing() -> None:
    small = replace(M4, flash=boards.Memory(0, 400), ram=boards.Memory(0x20000000, 8300))
    with pytest.raises(DoesNotFit, match=r"model does not fit virtual-m4: [\d,]+ bytes of flash are missing"):
        compile_model(graph.read(MADE["classifier"]), small)
    roomy = replace(small, flash=M4.flash)
    with pytest.raises(DoesNotFit, match=r"model does not fit virtual-m4: [\d,]+ bytes of RAM are missing") as caught:
        build.build(compile_model(graph.read(MADE["classifier"]), roomy), roomy)
    assert "--context" not in caught.value.hint


def test_options_of_the_other_kind_are_refused() -> None:
    with pytest.raises(UserError, match="--context is of language models alone"):
        compile_model(graph.read(MADE["classifier"]), M4, 12)
    with pytest.raises(UserError, match="--signature is not of language models"):
        compile_model(graph.read(convert(tiny.checkpoint())), M4, signature="decode")
