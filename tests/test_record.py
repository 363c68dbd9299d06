"""Records: what is written comes back, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.measure import record as records
from edge.measure.record import Accuracy, Decode, Image, Memory, Model, Prefill, Record, Reference
from firmware_tools.content import record_digest
from firmware_tools.errors import BadFile, UserError

RECORD = Record(
    model=Model("stories", "a" * 64, "b" * 64, "c" * 64, "int8"),
    image=Image("d" * 64),
    target="virtual-m4@unicorn",
    board="virtual-m4",
    emulated=True,
    clock="instructions",
    context=128,
    created="2025-01-02T03:04:05Z",
    tools={"edge": "0.1.0"},
    memory=Memory(20000, 290000, 9000, 12000, 40000, 4096),
    prefill=Prefill(1000.5, 15),
    decode=Decode(1460000, (1460000, 1460001), 15, 1),
    accuracy=Accuracy(kl=0.003, top1=0.97, tokens=2000, reference=Reference("float", "e" * 64), interval_95=(0.1, 0.2)),
)
NAMES = (
    "schema", "model.sha256", "model.file_sha256", "image.sha256", "target", "clock", "prefill.per_token",
    "decode.median", "decode.repeats", "memory.code_bytes", "memory.weight_bytes", "memory.vocabulary_bytes",
    "memory.arena_bytes", "memory.kv_cache_bytes", "memory.stack_bytes", "energy", "accuracy", "image.identity",
    "memory.weights_in", "clock_hz", "trouble",
)  # fmt: skip


def signed(data: dict[str, Any]) -> dict[str, Any]:
    """data with the hash that belongs to it, so that only what a test changed is wrong."""
    return {**data, "sha256": record_digest(data)}


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    records.write(RECORD, path)
    assert records.read(path) == RECORD
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", NAMES)
def test_has_the_names_that_tools_rely_on(name: str) -> None:
    data: Any = records.to_json(RECORD)
    for key in name.split("."):
        assert key in data
        data = data[key]


def test_absent_is_null() -> None:
    data = records.to_json(
        dataclasses.replace(RECORD, memory=Memory(), prefill=Prefill(), decode=Decode(), accuracy=None, image=Image())
    )
    assert data["energy"] is None and data["accuracy"] is None and data["image"]["sha256"] is None
    assert data["prefill"]["per_token"] is None and data["decode"]["median"] is None
    assert set(data["memory"].values()) == {None}
    assert records.from_json(data).memory.code_bytes is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "edge.run/2"),
        (("schema",), "edge.run/10"),
        (("schema",), None),
        (("clock",), "fortnights"),
        (("model", "sha256"), 7),
        (("model",), []),
        (("decode", "median"), "fast"),
        (("decode", "median"), -1),
        (("decode", "repeats"), [1, None]),
        (("memory", "code_bytes"), 1.5),
        (("memory", "code_bytes"), True),
        (("energy",), 3),
        (("tools",), {"edge": 1}),
        (("accuracy", "interval_95"), 0.5),
    ],
)
def test_refuses_what_it_cannot_have(path: tuple[str, ...], value: Any) -> None:
    data = records.to_json(RECORD)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError):
        records.from_json(signed(data))


def test_missing_key_is_named() -> None:
    data = records.to_json(RECORD)
    del data["model"]["sha256"]
    with pytest.raises(ValueError, match=r"model\.sha256 is missing"):
        records.from_json(signed(data))


def test_newer_minor_version_is_read() -> None:
    data = {**records.to_json(RECORD), "schema": "edge.run/1.4", "mood": "good"}
    assert records.from_json(signed(data)).decode == RECORD.decode


def test_change_by_accident_is_noticed() -> None:
    data = records.to_json(RECORD)
    data["decode"]["median"] += 1
    with pytest.raises(ValueError, match="changed after it was written"):
        records.from_json(data)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": NaN}', b"[" * 100000, b'{"schema": "edge.run/1"}']
)
def test_other_files_are_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(BadFile):
        records.read(path)


def test_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        records.read(tmp_path / "none.json")
    with pytest.raises(BadFile):
        records.read(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(key=st.sampled_from([field.name for field in dataclasses.fields(Record)]), value=json_values)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    data = signed({**records.to_json(RECORD), key: value})
    try:
        record = records.from_json(data)
    except ValueError:
        return
    assert records.from_json(json.loads(json.dumps(records.to_json(record)))) == record


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.mkdir()
    with pytest.raises(UserError, match="cannot write"):
        records.write(RECORD, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
