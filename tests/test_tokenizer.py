"""Host, device, llama2.c's algorithm and `tokenizers` itself give the same ids."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizer_device
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_device import llama2c_file, random_bytes, vocabulary_text
from tokenizers import Tokenizer as HuggingFace

from edge import tokenizer
from edge.tokenizer import Tokenizer
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

TRAINED = tokenizer_device.trained()
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n"
    "One day, she saw a big, red ball. “It’s mine!” said Tim – and he ran away…\n\n"
    'Lily was sad. "Can we share?" she asked. Tim smiled and said, "Yes, we can!"\nThe end.   </s> <0x0A> <s>'
)


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


# --- llama2.c


def test_small_llama2c_tokenizer_equals_the_oracle() -> None:
    data = tokenizer_device.small_llama2c()
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
    "ends in a token": tokenizer_device.small_llama2c()[:-1],
    "ends in a score": tokenizer_device.small_llama2c()[:-9],
    "ends among the bytes": tokenizer_device.small_llama2c()[:1000],
    "trailing bytes": tokenizer_device.small_llama2c() + b"\0\0\0",
    "trailing zeros": tokenizer_device.small_llama2c() + b"\0" * 64,
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
    "a header beyond all tokens": struct.pack("<i", 1 << 20) + tokenizer_device.small_llama2c()[4:],
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
