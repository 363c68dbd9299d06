"""Host, device, llama2.c's algorithm and `tokenizers` itself give the same ids."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cortex
import pytest
import tokenizer_device
import unicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_device import RUNTIME, Device
from tokenizers import Tokenizer as HuggingFace

from edge import tokenizer
from edge.tokenizer import Tokenizer
from firmware_tools import build, vocabulary
from firmware_tools.errors import BadFile, MissingTool

TRAINED = tokenizer_device.trained()
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n"
    "One day, she saw a big, red ball. “It’s mine!” said Tim – and he ran away…\n\n"
    'Lily was sad. "Can we share?" she asked. Tim smiled and said, "Yes, we can!"\nThe end.   </s> <0x0A> <s>'
)


def llama2c_file(tokens: Sequence[tuple[float, bytes]], longest: int | None = None) -> bytes:
    reserved = [
        (0.0, b"<unk>"),
        (0.0, b"\n<s>\n"),
        (0.0, b"\n</s>\n"),
        *((0.0, name.encode()) for name in tokenizer.BYTES),
    ]
    records = [*reserved, *tokens]
    header = struct.pack("<i", max(len(piece) for _, piece in records) if longest is None else longest)
    return header + b"".join(struct.pack("<fi", score, len(piece)) + piece for score, piece in records)


def small_llama2c() -> bytes:
    """A tokenizer in llama2.c's format made from TRAINED: scores fall with the id, as SentencePiece gives them."""
    pieces = vocabulary.read(TRAINED).pieces[259:]
    merged = [piece for piece in pieces if len(piece.decode()) > 1]
    single = [piece for piece in pieces if len(piece.decode()) == 1]
    return llama2c_file([(-float(i), piece) for i, piece in enumerate(merged + single)])


def llama2c_encode(data: bytes, text: str) -> list[int]:
    """The oracle: llama2.c's encode() as its source describes it, over strings, without BOS.

    A dummy space, then each character or its bytes; then, as long as two neighbours concatenate to a token, the pair
    whose token has the best score, the leftmost of equals.
    """
    names, scores, position = [], [], 4
    while position < len(data):
        score, length = struct.unpack_from("<fi", data, position)
        names.append(data[position + 8 : position + 8 + length])
        scores.append(score)
        position += 8 + length
    lookup = {name: id for id, name in enumerate(names)}
    ids = [lookup[b" "]] if text else []
    for character in text:
        raw = character.encode()
        ids += [lookup[raw]] if raw in lookup else [byte + 3 for byte in raw]
    while True:
        best_score, best_at = -1e10, -1
        for at in range(len(ids) - 1):
            id = lookup.get(names[ids[at]] + names[ids[at + 1]], -1)
            if id != -1 and scores[id] > best_score:
                best_score, best_at = scores[id], at
        if best_at == -1:
            return ids
        ids[best_at : best_at + 2] = [lookup[names[ids[best_at]] + names[ids[best_at + 1]]]]


def vocabulary_text(source: vocabulary.Vocabulary, pick: random.Random, count: int) -> bytes:
    return b"".join(pick.choice(source.pieces) for _ in range(count))


def overlong(character: str, length: int) -> bytes:
    """The character in 2, 3 or 4 bytes as UTF-8 would write it, were it allowed to be longer than need be."""
    code, mark = ord(character), {2: 0xC0, 3: 0xE0, 4: 0xF0}[length]
    tail = [0x80 | code >> 6 * i & 0x3F for i in reversed(range(length - 1))]
    return bytes([mark | code >> 6 * (length - 1) & (0x7F >> length), *tail])


def random_bytes(source: vocabulary.Vocabulary, pick: random.Random) -> bytes:
    """A byte string of one of the kinds that go wrong differently."""
    size = pick.choice((0, 1, 2, 3, 5, 8, 13, 30, 80))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: bytes(pick.randrange(128) for _ in range(size)),
        lambda: bytes(pick.randrange(256) for _ in range(size)),
        lambda: vocabulary_text(source, pick, size),
        lambda: "".join(
            chr(pick.choice((0x61, 0xE9, 0x20AC, 0xD7FF, 0xE000, 0xFFFF, 0x1F600))) for _ in range(size)
        ).encode(),
        lambda: bytes([pick.randrange(256)]) * size,
        lambda: pick.choice((b" ", b"a", b" a", b"ab", b"\n", b"\xc3\xa9")) * size,
        lambda: b"".join(
            pick.choice((b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a")) for _ in range(size)
        ),
        lambda: b"".join(overlong(pick.choice("al \u00e9\u5bdd"), pick.randrange(2, 5)) for _ in range(size)),
        lambda: bytes(byte | pick.choice((0, 0x08, 0x40)) for byte in "\U0001f6cbé寝".encode() * size),
        lambda: b"".join(pick.choice((b"</s>", b"<s>", b"<0x0A>", b"<unk>", b"\0", b" ")) for _ in range(size)),
        lambda: random_bytes(source, pick)[: size // 2] + random_bytes(source, pick),
    )
    return pick.choice(kinds)()


# --- llama2.c


def test_small_llama2c_tokenizer_equals_the_oracle() -> None:
    data = small_llama2c()
    host = Tokenizer(tokenizer.from_llama2c(data))
    pick = random.Random(3)
    texts = [*tokenizer_device.sentences(200, seed=2), STORY, "", " ", "   ", "\n", "\x00", "寝室", "🙂"]
    texts += [vocabulary_text(host.vocabulary, pick, 12).decode("utf-8", "ignore") for _ in range(300)]
    for text in texts:
        assert host.encode(text) == llama2c_encode(data, text), text


def test_tok512_equals_the_oracle(shared_data: Path) -> None:
    data = (shared_data / "stories260K" / "tok512.bin").read_bytes()
    host = Tokenizer(tokenizer.from_llama2c(data), bos_id=1)
    assert host.vocab_size == 512 and host.vocabulary.can_encode
    shakespeare = (shared_data / "corpora" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    pick = random.Random(4)
    starts = [pick.randrange(len(shakespeare)) for _ in range(400)]
    texts = [STORY, *STORY.splitlines(), *(shakespeare[start : start + pick.randrange(200)] for start in starts)]
    texts += [vocabulary_text(host.vocabulary, pick, 20).decode("utf-8", "ignore") for _ in range(1000)]
    texts += [
        "".join(pick.choice(("her", "e", "r", "h", "er", "he", "th", "v", " ")) for _ in range(12)) for _ in range(1000)
    ]
    for text in texts:
        assert host.encode(text) == llama2c_encode(data, text), text
    assert host.encode("Once upon a time", bos=True) == [1, 403, 407, 261, 378]  # what llama2.c's own run prints


def test_tok512_has_no_scores_that_ranks_could_not_express(shared_data: Path) -> None:
    """The conditions that from_llama2c's docstring gives for equal ids, whatever the text."""
    data = (shared_data / "stories260K" / "tok512.bin").read_bytes()
    scores = {text: score for score, text in list(tokenizer._llama2c_tokens(data))[259:]}
    merges = [tuple(merge) for merge in json.loads(tokenizer.from_llama2c(data))["model"]["merges"]]
    assert len(set(scores.values())) == len(scores)
    for result in {left + right for left, right in merges}:
        cuts = [merge for merge in merges if "".join(merge) == result]
        if len(cuts) == 1:
            continue
        lefts, rights = {left for left, _ in cuts}, {right for _, right in cuts}
        assert not lefts & rights, "two pairs of one token overlap"
        for left, right in merges:
            takes = (left.endswith(result) and right in lefts) or (right.startswith(result) and left in rights)
            assert not (takes and scores[left + right] > scores[result]), (
                "a better merge takes a symbol of the other pair"
            )


def test_a_token_with_more_than_one_pair() -> None:
    pieces = (b"aaa", b"aa", b"a", b" ", b"b", b"ab")
    data = llama2c_file([(score, piece) for score, piece in zip((-1, -2, -3, -4, -5, 0), pieces, strict=True)])
    host = Tokenizer(tokenizer.from_llama2c(data))
    merges = json.loads(host.json)["model"]["merges"]
    assert merges[0] == ["a", "b"] and sorted(merges[1:3]) == [["a", "aa"], ["aa", "a"]]
    for size in range(12):
        for text in ("a" * size, "a" * size + "b", "b" + "a" * size):
            assert host.encode(text) == llama2c_encode(data, text), text


def test_equal_scores_differ_as_documented() -> None:
    data = llama2c_file([(0.0, b"bc"), (0.0, b"ab"), (-1.0, b"a"), (-1.0, b"b"), (-1.0, b"c"), (-1.0, b" ")])
    host = Tokenizer(tokenizer.from_llama2c(data))
    bc, ab, a, _, c, space = range(259, 265)
    assert llama2c_encode(data, "abc") == [space, ab, c]  # the leftmost of equal scores
    assert host.encode("abc") == [space, a, bc]  # the lower id


def test_a_tokens_own_score_may_forbid_it() -> None:
    data = llama2c_file([(-1e10, b"ab"), (0.0, b"a"), (0.0, b"b"), (0.0, b" ")])
    host = Tokenizer(tokenizer.from_llama2c(data))
    assert host.encode("ab") == llama2c_encode(data, "ab") == [262, 260, 261]


BAD_LLAMA2C = {
    "empty": b"",
    "three bytes": b"abc",
    "a header alone": struct.pack("<i", 7),
    "garbage": random.Random(5).randbytes(4000),
    "text": b"Once upon a time there was a file of the wrong kind. " * 50,
    "ends in a token": small_llama2c()[:-1],
    "ends in a score": small_llama2c()[:-9],
    "ends among the bytes": small_llama2c()[:1000],
    "trailing bytes": small_llama2c() + b"\0\0\0",
    "trailing zeros": small_llama2c() + b"\0" * 64,
    "longer than the header says": llama2c_file([(0.0, b"longer")], longest=5),
    "an empty token": llama2c_file([(0.0, b"")]),
    "a negative length": llama2c_file([]) + struct.pack("<fi", 0.0, -5),
    "an enormous length": llama2c_file([]) + struct.pack("<fi", 0.0, 0x7FFFFFFF),
    "a score that is NaN": llama2c_file([(float("nan"), b"a")]),
    "a score that is infinite": llama2c_file([(float("inf"), b"a")]),
    "not UTF-8": llama2c_file([(0.0, b"\xff\xfe")]),
    "a token twice": llama2c_file([(0.0, b"a"), (1.0, b"a")]),
    "another <s>": llama2c_file([(0.0, b"<s>")]),
    "byte tokens missing": struct.pack("<ififi", 5, 0.0, 5, 0.0, 1) + b"<unk>",
    "a header beyond all tokens": struct.pack("<i", 1 << 20) + small_llama2c()[4:],
}


@pytest.mark.parametrize("name", BAD_LLAMA2C)
def test_a_bad_llama2c_tokenizer_is_one_clear_error(name: str) -> None:
    with pytest.raises(BadFile) as caught:
        tokenizer.from_llama2c(BAD_LLAMA2C[name])
    assert caught.value.hint and caught.value.message.isprintable()


# --- the host


@pytest.mark.parametrize("make", [lambda source: source, tokenizer_device.word_marked], ids=["spaces", "word marks"])
def test_the_host_equals_tokenizers_on_the_same_file(make: Callable[[bytes], bytes]) -> None:
    host = Tokenizer(make(TRAINED))
    oracle = HuggingFace.from_str(host.json.decode())
    oracle.encode_special_tokens = True  # text stays text
    assert host.vocabulary.can_encode
    pick = random.Random(6)
    texts = [*tokenizer_device.sentences(100, seed=3), STORY, " ", "", "▁x▁", "\u2581", "é\n"]
    texts += [random_bytes(host.vocabulary, pick).decode("utf-8", "ignore") for _ in range(2000)]
    for text in texts:
        ids = oracle.encode(text, add_special_tokens=False).ids
        assert host.encode(text) == ids, text
        assert host.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


@settings(max_examples=500, deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.text(" aeltu<s/>0x\u2581").map(str.encode))
def test_any_bytes_come_back(data: bytes) -> None:
    host = Tokenizer(TRAINED)
    ids = host.encode(data)
    assert host.decode_bytes(ids) == data
    assert not {0, 1, 2} & set(ids)
    stream = host.stream(continuation=False)
    assert "".join(stream.feed(id) for id in ids) + stream.end() == host.decode(ids) == data.decode("utf-8", "replace")


def test_text_between_bytes_that_are_not_utf8_merges_by_itself() -> None:
    host = Tokenizer(TRAINED)
    lamp = host.encode("lamp")
    assert host.decode_bytes(lamp, continuation=True) == b" lamp" and len(lamp) == 1
    space, ff = dict(host.vocabulary.characters)[ord(" ")], 3 + 0xFF
    assert host.encode(b"\xff") == [space, ff]  # the dummy space is a symbol of its own
    assert host.encode(b"\xfflamp")[:2] == [space, ff] and lamp[0] not in host.encode(b"\xfflamp")
    assert host.encode(b"lamp\xff lamp") == [*lamp, ff, *lamp]
    assert host.encode(b"lamp\xe2\x82 lamp") == [*lamp, 3 + 0xE2, 3 + 0x82, *lamp]


def test_arguments_that_were_not_utf8_are_bytes_again() -> None:
    host = Tokenizer(TRAINED)
    assert host.encode(b"caf\xe9".decode("utf-8", "surrogateescape")) == host.encode(b"caf\xe9")
    assert host.encode("\ud800") == host.encode(b"\xed\xa0\x80")


def test_typed_special_tokens_are_text() -> None:
    for source in (TRAINED, tokenizer_device.word_marked(TRAINED)):
        host = Tokenizer(source, bos_id=1, stop_ids=[2])
        for text in ("</s>", "<s>", "<unk>", "a</s>", "<0x0A>"):
            assert not {0, 1, 2, 13} & set(host.encode(text))
            assert host.decode(host.encode(text)) == text
        assert host.encode("</s>", bos=True)[0] == 1


def test_a_special_token_of_one_character_is_not_reached_by_text() -> None:
    document = json.loads(TRAINED)
    document["added_tokens"].append({"id": document["model"]["vocab"]["l"], "content": "l", "special": True})
    host = Tokenizer(json.dumps(document).encode())
    assert document["model"]["vocab"]["l"] not in host.encode("lamp lamp")
    assert host.decode(host.encode("lamp")) == "lamp"


def test_prompt_is_bos_and_the_text_in_its_template() -> None:
    card = {"bos_id": 1, "stop_ids": [2], "template": {"before": "dim ", "after": "\n"}}
    host = tokenizer.from_card(TRAINED, card)
    assert host.prompt("the lamp") == [1, *host.encode("dim the lamp\n")]
    assert host.prompt(b"\xff") == [1, *host.encode(b"dim \xff\n")]
    assert (host.bos_id, host.stop_ids) == (1, (2,))
    assert tokenizer.from_card(TRAINED, {}).prompt("x") == host.encode("x")


@pytest.mark.parametrize(
    "card",
    [
        {"bos_id": 400},
        {"bos_id": -1},
        {"bos_id": "1"},
        {"bos_id": True},
        {"stop_ids": [2, 400]},
        {"stop_ids": 2},
        {"template": ["a", "b"]},
        {"template": {"before": 1}},
    ],
)
def test_a_card_that_does_not_fit_its_tokenizer_is_refused(card: dict[str, object]) -> None:
    with pytest.raises(BadFile):
        tokenizer.from_card(TRAINED, card)


def test_only_the_start_of_a_text_loses_its_dummy_space() -> None:
    host = Tokenizer(TRAINED, bos_id=1)
    ids = host.encode("lamp lamp", bos=True)
    assert host.decode(ids) == "lamp lamp"
    assert host.decode(ids, continuation=True) == " lamp lamp"
    assert host.decode(ids[2:], continuation=True) == " lamp"
    assert host.decode(host.encode("  lamp")) == "  lamp"
    stream = host.stream(continuation=False)
    assert [stream.feed(id) for id in ids] == ["", "lamp", " lamp"]
    assert host.stream().feed(ids) == " lamp lamp"


def test_a_stream_holds_a_character_back_until_it_is_whole() -> None:
    host = Tokenizer(TRAINED)
    stream = host.stream()
    assert [stream.feed(3 + byte) for byte in "🙂".encode()] == ["", "", "", "🙂"]
    assert stream.feed([3 + 0xE2, 3 + 0x82]) == "" and stream.end() == "\ufffd"
    assert host.stream().feed([3 + 0xE2, 3 + ord("a")]) == "\ufffda"
    assert host.decode([-1, 0, 1, 2, 99_999]) == ""


def test_other_tokenizers_work_on_the_host_without_their_special_tokens() -> None:
    document = json.loads(TRAINED)
    document["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}
    document["truncation"] = {"max_length": 1, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    host = Tokenizer(json.dumps(document).encode())
    assert "splits" in host.vocabulary.reason
    ids = host.encode("</s> the lamp")
    assert not {0, 1, 2} & set(ids) and ids != Tokenizer(TRAINED).encode("</s> the lamp")
    assert host.decode(ids, continuation=True) == " </s> the lamp"
    assert host.decode(host.encode(b"a\xff"), continuation=True) == " a\ufffd"


def test_a_tokenizer_that_the_library_refuses_is_one_clear_error() -> None:
    document = json.loads(TRAINED)
    document["pre_tokenizer"] = {"type": "*/ no such thing"}
    with pytest.raises(BadFile):
        Tokenizer(json.dumps(document).encode())


def test_training_gives_the_same_file_again_and_merges_across_no_cut() -> None:
    assert tokenizer.train(tokenizer_device.sentences(), 400) == TRAINED
    pieces = [piece.decode() for piece in vocabulary.read(TRAINED).pieces[259:]]
    assert all(" " not in piece[1:] for piece in pieces)
    assert all(len(piece) == 1 for piece in pieces if any(c.isdigit() or c in "!%,\n" for c in piece))
    with pytest.raises(ValueError, match="259"):
        tokenizer.train(["a"], 259)


def test_training_keeps_to_its_size_where_the_characters_do_not_fit() -> None:
    many = "".join(chr(0x4E00 + i) for i in range(500)) + "aaaa" * 50
    small = Tokenizer(tokenizer.train([many], 300))
    assert small.vocab_size == 300 and small.vocabulary.can_encode
    assert small.decode(small.encode(many)) == many


# --- the device


def sources() -> dict[str, bytes]:
    return {
        "trained": TRAINED,
        "word marks": tokenizer_device.word_marked(TRAINED),
        "llama2.c": tokenizer.from_llama2c(small_llama2c()),
        "random merges 1": tokenizer_device.random_merges(1),
        "random merges 2": tokenizer_device.random_merges(2, count=400),
    }


@pytest.fixture(scope="module", params=sources())
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Device]:
    host = Tokenizer(sources()[request.param])
    return host, Device(host.vocabulary, tmp_path_factory.mktemp("device"))


def test_device_equals_host_on_10000_random_byte_strings(pair: tuple[Tokenizer, Device]) -> None:
    host, device = pair
    assert device.can_encode
    pick = random.Random(7)
    for _ in range(10_000):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids), text


def test_device_equals_host_on_tok512(shared_data: Path, tmp_path: Path) -> None:
    host = Tokenizer(tokenizer.from_llama2c((shared_data / "stories260K" / "tok512.bin").read_bytes()))
    device = Device(host.vocabulary, tmp_path)
    pick = random.Random(8)
    shakespeare = (shared_data / "corpora" / "tinyshakespeare.txt").read_bytes()
    texts = [shakespeare[start : start + 300] for start in range(0, len(shakespeare), 5000)]
    texts += [random_bytes(host.vocabulary, pick) for _ in range(10_000)]
    for text in texts:
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids), text
        assert b"".join(device.piece(id) for id in ids) == host.decode_bytes(ids, continuation=True)


def test_device_in_any_capacity(pair: tuple[Tokenizer, Device]) -> None:
    """Enough room for the symbols before merging is enough; less room gives their number and spoils nothing."""
    host, device = pair
    pick = random.Random(9)
    for _ in range(200):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        symbols, _ = device.encode(text, 0)
        assert len(ids) <= symbols <= len(text) + 1 and (symbols == 0) == (text == b"")
        for capacity in range(symbols + 3):
            count, got = device.encode(text, capacity)
            assert (count, got) == ((symbols, []) if capacity < symbols else (len(ids), ids))


def test_device_without_undefined_behaviour(pair: tuple[Tokenizer, Device], tmp_path: Path) -> None:
    host, _ = pair
    device = Device(host.vocabulary, tmp_path, sanitize=True)
    pick = random.Random(10)
    for _ in range(1000):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids)
    assert [device.piece(id) for id in range(host.vocab_size)] == list(host.vocabulary.pieces)
    assert device.piece(host.vocab_size) == device.piece(0xFFFFFFFF) == b""


def test_device_on_a_long_text(pair: tuple[Tokenizer, Device]) -> None:
    host, device = pair
    text = vocabulary_text(host.vocabulary, random.Random(11), 3000) + b"a" * 2000 + b" " * 2000
    ids = host.encode(text)
    assert device.encode(text) == (len(ids), ids)


@pytest.mark.parametrize("core", [cortex.M4, cortex.M0], ids=lambda core: core.name)
def test_cortex_m_equals_host(core: cortex.Core, tmp_path: Path) -> None:
    host = Tokenizer(TRAINED)
    (tmp_path / "vocabulary.c").write_text(vocabulary.lower(host.vocabulary), encoding="ascii")
    chip = cortex.Cortex(core, [tmp_path / "vocabulary.c", RUNTIME / "tokenizer.c"], [RUNTIME], tmp_path)
    pick = random.Random(13)
    for _ in range(300):
        text = random_bytes(host.vocabulary, pick)
        room = len(text) + 1
        ids = chip.put(bytes(2 * room))
        chip.call("edge_encode", chip.put(text), len(text), ids, room)
        count = chip.machine.reg_read(unicorn.arm_const.UC_ARM_REG_R0)
        assert list(struct.unpack(f"<{count}H", chip.get(ids, 2 * count))) == host.encode(text), text
        chip.release()


EXACT_BUFFERS = """
#include <stdio.h>
#include <stdlib.h>
#include "tokenizer.h"
/* Standard input: for each text its size and the capacity, two uint32, and its bytes. Every buffer is of exact size. */
int main(void) {
    uint32_t sizes[2];
    while (fread(sizes, sizeof sizes, 1, stdin) == 1) {
        uint8_t *text = malloc(sizes[0]);
        uint16_t *ids = malloc(sizes[1] * sizeof *ids);
        if (sizes[0] > 0 && fread(text, sizes[0], 1, stdin) != 1) return 2;
        size_t count = edge_encode(text, sizes[0], ids, sizes[1]);
        printf("%zu", count);
        for (size_t i = 0; i < count && count <= sizes[1]; i++) printf(" %u", ids[i]);
        printf("\\n");
        free(text);
        free(ids);
    }
    return 0;
}
"""


@pytest.mark.system
def test_device_stays_within_its_buffers(tmp_path: Path) -> None:
    host = Tokenizer(TRAINED)
    (tmp_path / "main.c").write_text(EXACT_BUFFERS)
    (tmp_path / "vocabulary.c").write_text(vocabulary.lower(host.vocabulary))
    files = [tmp_path / "main.c", tmp_path / "vocabulary.c", RUNTIME / "tokenizer.c"]
    try:
        program = build.build_host_program(files, [RUNTIME], tmp_path / "encode")
    except MissingTool as error:
        pytest.skip(error.message)
    pick = random.Random(12)
    texts = [random_bytes(host.vocabulary, pick) for _ in range(2000)]
    cases = [(text, len(text) + 1) for text in texts] + [(text, pick.randrange(len(text) + 2)) for text in texts]
    given = b"".join(struct.pack("<II", len(text), capacity) + text for text, capacity in cases)
    result = subprocess.run([str(program)], input=given, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    for (text, capacity), line in zip(cases, result.stdout.decode().splitlines(), strict=True):
        count, *ids = map(int, line.split())
        assert count > capacity or ids == host.encode(text)


CORTEX_M4 = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-ffp-contract=off", "-ffunction-sections"]


@pytest.mark.parametrize("name, limit_bytes", [("tokenizer", 1536), ("sampler", 1024)])
def test_code_size_on_cortex_m4(name: str, limit_bytes: int, tmp_path: Path) -> None:
    from firmware_tools import elf

    out = tmp_path / "out.o"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"]
    flags = [*CORTEX_M4, "-Os", "-fno-sanitize=undefined", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
    subprocess.run([*zig, *flags, f"-I{RUNTIME}", "-c", str(RUNTIME / f"{name}.c"), "-o", str(out)], check=True)
    code = sum(s.size_bytes for s in elf.read(out.read_bytes()).sections if s.in_memory and ".ARM" not in s.name)
    assert 200 < code < limit_bytes


@pytest.mark.system
@pytest.mark.parametrize("name", ["tokenizer", "sampler"])
def test_gcc_has_no_warnings_either(name: str, tool: Callable[[str], str], tmp_path: Path) -> None:
    machine = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
    for level in ("-Os", "-O2", "-O3"):
        command = [
            tool("arm-none-eabi-gcc"),
            *machine,
            *CORTEX_M4,
            level,
            f"-I{RUNTIME}",
            "-c",
            str(RUNTIME / f"{name}.c"),
        ]
        subprocess.run([*command, "-o", str(tmp_path / "out.o")], check=True)
