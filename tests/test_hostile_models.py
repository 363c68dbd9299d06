"""Model files made to harm: strings that would end a comment or a literal, drive a terminal, or become code.

Whatever of them passes the verifier is compiled with all warnings on and run; nothing of it may reach C but as data.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import remodel
import tiny
from native import HOST, Native, same_bits

from edge.make.convert import convert
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.errors import BadFile, UserError

M4 = boards.load("virtual-m4")
STRINGS = {
    "comment": "*/ int evil; /*",
    "line comment": "// evil \\",
    "quote": '"; int evil; "',
    "escape": "evil\\",
    "octal": "evil\\1\x019",
    "newline": "evil\r\n#error evil\n",
    "trigraph": "evil??/??'??<??=",
    "format": "%s%n%99999d evil",
    "terminal": "\x1b[31mevil\x1b]0;evil\x07\x9b31m",
    "direction": "\u202eevil\u2066",
    "script": "<script>evil()</script>",
    "path": "../../evil",
    "long": "evil " * 800,
    "wide": "evil \U0001f600 \u00e9",
}
EVERYTHING = "".join(STRINGS[name] for name in STRINGS if name != "long")


def with_tokenizer(model: bytes, text: str) -> bytes:
    """The special token 0 is called text."""
    tokenizer = json.loads(graph.read(model).tokenizer)
    (old,) = [piece for piece, id in tokenizer["model"]["vocab"].items() if id == 0]
    tokenizer["model"]["vocab"] = {text: 0, **{p: i for p, i in tokenizer["model"]["vocab"].items() if i}}
    if tokenizer["model"].get("unk_token") == old:
        tokenizer["model"]["unk_token"] = text
    for token in tokenizer.get("added_tokens", []):
        if token["id"] == 0:
            token["content"] = text
    return remodel.edited(model, lambda m: remodel.metadata(m, "edge.tokenizer", json.dumps(tokenizer).encode()))


def hostile(text: str) -> bytes:
    """A working model that says text wherever a .tflite of ours has room for a string."""
    template = {"before": text, "after": text}
    words = {"name": text, "licence": text, "source": text, "template": template, text: text}
    model = with_tokenizer(convert(tiny.checkpoint(card=words)), text)

    def rename(m: Any) -> None:
        m.description = text
        for subgraph in m.subgraphs:
            subgraph.name = text
            for tensor in subgraph.tensors:
                tensor.name = text
        remodel.metadata(m, text, text.encode())
        remodel.metadata(m, "edge.label", text.encode())

    return remodel.edited(model, rename)


@pytest.fixture(scope="module")
def harmless() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint()))


@pytest.mark.parametrize("kind", [name for name in STRINGS if name != "long"])
def test_strings_enter_c_as_data_alone(kind: str) -> None:
    read = graph.read(hostile(STRINGS[kind]))
    sources = compile_model(read, M4)
    for name, text in sources.files.items():
        assert text.isascii() and text.replace("\n", "").isprintable(), f"{name} has control characters"
        outside = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text)
        assert "evil" not in outside and "??" not in text
    assert not any("evil" in sources.files[name] for name in ("weights.c", "weights.h", "vocabulary.c"))


def test_all_of_them_at_once_compile_and_run(harmless: graph.Graph, tmp_path: Path) -> None:
    """The C is that of a harmless model but for the facts, which come back as they were written."""
    read = graph.read(hostile(EVERYTHING))
    sources, plain = compile_model(read, HOST), compile_model(harmless, HOST)
    for name in ("weights.c", "weights.h"):
        assert sources.files[name] == plain.files[name]
    after_facts = [text[text.index("\n};\n") :] for text in (sources.files["model.c"], plain.files["model.c"])]
    assert after_facts[0] == after_facts[1]
    for folder in ("hostile", "plain"):
        (tmp_path / folder).mkdir()
    native, other = Native(sources, tmp_path / "hostile"), Native(plain, tmp_path / "plain")
    assert native.facts.before == native.facts.after == EVERYTHING.encode()
    assert len(native.facts.name) <= 40 and native.facts.name.decode("ascii").isprintable()
    info = json.loads(native.facts.info)
    assert info["name"] == native.facts.name.decode() and set(info) == set(json.loads(other.facts.info))
    for position, token in enumerate([1, 0, 299, 7]):
        assert same_bits(native.step(token, position), other.step(token, position))


def test_a_hostile_model_runs_on_a_board() -> None:
    read = graph.read(hostile(EVERYTHING))
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        info = link.hello()
        assert info.model == read.sha256 and info.name.isprintable() and info.name.isascii()


def test_long_strings_compile(tmp_path: Path) -> None:
    text = STRINGS["long"]
    read = graph.read(convert(tiny.checkpoint(card={"template": {"before": text, "after": text}})))
    assert Native(compile_model(read, HOST), tmp_path).facts.before == text.encode()


def test_long_names_are_refused_or_cut() -> None:
    with pytest.raises(BadFile, match="name"):
        graph.read(convert(tiny.checkpoint(card={"name": STRINGS["long"]})))


def test_the_facts_fit_one_frame(harmless: graph.Graph) -> None:
    """The longest facts that the verifier lets pass reach the host."""
    card = {"name": "\\" * 1000, "stop_ids": list(range(268, 300))}
    read = graph.read(convert(tiny.checkpoint(card=card)))
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        assert link.hello().stop_ids == tuple(card["stop_ids"])


@pytest.mark.parametrize("kind", STRINGS)
def test_errors_do_not_repeat_them(kind: str) -> None:
    """Names in messages about a damaged file are those of the format, never those of the file."""
    text = STRINGS[kind]
    model = convert(tiny.checkpoint())

    def rename_input(m: Any) -> None:
        m.signatureDefs[0].inputs[0].name = text

    def add_signature(m: Any) -> None:
        m.signatureDefs[1].signatureKey = text

    def custom(m: Any) -> None:
        operator = remodel.operators(m, "LOGISTIC")[0]
        operator.opcodeIndex = remodel.code(m, "CUSTOM")
        m.operatorCodes[-1].customCode = text

    def contract(m: Any) -> None:
        remodel.metadata(m, "edge.contract", text.encode())

    def quantization(m: Any) -> None:
        card = {**graph.read(model).card, "quantization": text}
        remodel.metadata(m, "edge.card", json.dumps(card).encode())

    for change in (rename_input, add_signature, custom, contract, quantization):
        with pytest.raises(UserError) as error:
            compile_model(graph.read(remodel.edited(model, change)), M4)
        said = error.value.message + error.value.hint
        assert said.isprintable() and "evil" not in said
