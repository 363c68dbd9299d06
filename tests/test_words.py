"""The words of a plain model that takes a text: ids, padding, files of texts, and documents that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import inputs, words
from firmware_tools.errors import BadFile, UserError
from firmware_tools.program import Border

IDS = Border("ids", 0, "int32", (1, 4), None, 0)
DOCUMENT = words.write(["", "[UNK]", "lamp", "on", "off"], words.Rules(), 1, 0)


def test_ids() -> None:
    known = words.Words(DOCUMENT)
    assert known.ids("LAMP,\ton!", 4).tolist() == [2, 3, 0, 0]
    assert known.ids("on off on off lamp", 4).tolist() == [3, 4, 3, 4]  # cut
    assert known.ids("lamp on-off \ud800", 4).tolist() == [2, 1, 1, 0]  # half a surrogate is a word that nobody knows
    assert words.Words(words.write(["?", "two words"], words.Rules(False, False, False), 0, 0)).ids(
        "two words", 1
    ).tolist() == [1]


def test_a_text_or_a_file_of_texts_or_ids(tmp_path: Path) -> None:
    known = words.Words(DOCUMENT)
    (row,) = inputs.one(["lamp on"], [IDS], known)
    assert row.tolist() == [[2, 3, 0, 0]] and row.dtype == np.int32
    (tmp_path / "texts.txt").write_text("on\n\noff lamp\n", encoding="utf-8")
    rows = inputs.many([str(tmp_path / "texts.txt")], [IDS], known)
    assert [ids.tolist() for (ids,) in rows] == [[[3, 0, 0, 0]], [[0, 0, 0, 0]], [[4, 2, 0, 0]]]
    np.save(tmp_path / "ids.npy", np.array([[1, 2, 3, 4]]))
    assert inputs.one([str(tmp_path / "ids.npy")], [IDS], known)[0].tolist() == [[1, 2, 3, 4]]
    (tmp_path / "none.txt").write_text("", encoding="utf-8")
    for specs, said in (
        ([], "wants one text"),
        (["a", "b"], "given twice"),
        ([str(tmp_path / "none.txt")], "is empty"),
        ([str(tmp_path / "other.txt")], "cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            inputs.many(specs, [IDS], known)
    for borders in ([IDS, IDS], [Border("x", 0, "float32", (1, 4), None, 0)]):
        with pytest.raises(BadFile, match="no single input of ids"):
            inputs.many(["lamp"], borders, known)


def changed(change: Callable[[Any], None]) -> bytes:
    document = json.loads(DOCUMENT)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "document, said",
    [
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "has no tokenizer"),
        (changed(lambda d: d["tokenizer"].pop("model")), "no table of words"),
        (changed(lambda d: d["tokenizer"]["model"].update(type="BPE")), "no table of words"),
        (changed(lambda d: d["tokenizer"]["model"].update(vocab={})), "no table of words"),
        (changed(lambda d: d["tokenizer"]["model"]["vocab"].update(lamp=-1)), "no number of a word"),
        (changed(lambda d: d["tokenizer"]["model"]["vocab"].update(lamp=1 << 40)), "no number of a word"),
        (changed(lambda d: d.update(pad_id=True)), "no number of a word"),
        (changed(lambda d: d["tokenizer"]["model"].update(unk_token=["x"])), "no id for words"),
        (changed(lambda d: d["tokenizer"]["model"].update(unk_token="absent")), "no id for words"),
        (changed(lambda d: d["tokenizer"].update(normalizer={"type": "Lowercase"})), "more to a text"),
        (
            changed(lambda d: d["tokenizer"]["normalizer"]["normalizers"][0].update(pattern={"Regex": "(a+)+$"})),
            "more to a text",
        ),
        (changed(lambda d: d["tokenizer"]["normalizer"]["normalizers"][0].update(content="aaaa")), "more to a text"),
        (changed(lambda d: d["tokenizer"]["pre_tokenizer"].update(pattern={"Regex": "x*"})), "more to a text"),
        (changed(lambda d: d["tokenizer"].update(pre_tokenizer={"type": "ByteLevel"})), "more to a text"),
    ],
)
def test_a_document_of_another_kind_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(BadFile, match=said):
        words.Words(document)
