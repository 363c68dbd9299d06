"""Several models in one call: each as it would be alone, and what tells them apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.decide import comparison, report
from edge.decide.comparison import Comparison
from edge.make import convert
from edge.measure import evaluate_each
from edge.measure import record as records
from edge.measure.record import Record
from firmware_tools.errors import BadFile, UserError
from tests import plain_models, tiny
from tests.test_record import RECORD, signed

TEXT = "sit on the tin can and eat a date in rain " * 12
TASK = [{"prompt": word, "answer": answer} for word, answer in (("tin", "can"), ("sea", "x"), ("rain", ";;;"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    for scheme in ("float32", "int8", "int4"):
        convert.save(convert.convert(tiny.checkpoint(), scheme), folder / f"{scheme}.tflite")
    convert.save(convert.convert(tiny.checkpoint(), "int8", 12), folder / "short.tflite")
    other = tiny.checkpoint()
    other = dataclasses.replace(other, tokenizer=other.tokenizer.replace(b'"1.0"', b'"1.0" '))
    convert.save(convert.convert(other), folder / "tokenizer.tflite")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, TASK)), encoding="utf-8")
    return folder


def measured(folder: Path, *names: str, target: str = "host", **what: Any) -> list[Record]:
    paths = [folder / f"{name}.tflite" for name in names]
    reference = what.pop("reference", None)
    default = {"limit": None, "tokens": None, "greedy": True, "temperature": None, "top_p": None, "seed": None}
    given = {"text": folder / "text.txt", "task": None, **default, **what}
    return evaluate_each.evaluate_each(paths, target, reference, **given)


def test_two_in_one_call_are_two_calls(folder: Path) -> None:
    reference = folder / "float32.tflite"
    together = measured(folder, "int8", "int4", reference=reference)
    apart = [*measured(folder, "int8", reference=reference), *measured(folder, "int4", reference=reference)]
    for one, other in zip(together, apart, strict=True):
        assert one.accuracy == other.accuracy and one.model == other.model
    assert together[0].accuracy != together[1].accuracy


def test_a_reference_too_large_to_keep_runs_beside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = folder / "float32.tflite"
    kept = measured(folder, "int8", "int4", reference=reference, limit=60)
    monkeypatch.setattr(evaluate_each, "MOST_KEPT_BYTES", 60 * 300 * 4 - 1)
    monkeypatch.delattr(evaluate_each, "record_reference")
    assert [run.accuracy for run in measured(folder, "int8", "int4", reference=reference, limit=60)] == [
        run.accuracy for run in kept
    ]


def test_task_through_a_board(folder: Path) -> None:
    task = {"text": None, "task": str(folder / "task.jsonl"), "tokens": 3}
    together = measured(folder, "int8", "int4", target="virtual-m4", **task)
    for one, name in zip(together, ("int8", "int4"), strict=True):
        (alone,) = measured(folder, name, target="virtual-m4", **task)
        assert one.accuracy == alone.accuracy
        assert one.accuracy is not None and one.accuracy.outcomes is not None
        assert one.accuracy.outcomes.right is not None and len(one.accuracy.outcomes.right) == 3


def test_a_text_is_read_in_the_same_pieces_by_all(folder: Path) -> None:
    long, short = measured(folder, "int8", "short", limit=40)
    assert long.context == short.context == 12
    assert long.accuracy == short.accuracy


def test_other_tokens_are_no_pairs(folder: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.tflite has another tokenizer than int8\.tflite"):
        measured(folder, "int8", "tokenizer")


def test_plain_models(tmp_path: Path) -> None:
    paths = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    paths[0].write_bytes(plain_models.classifier())
    paths[1].write_bytes(plain_models.classifier())
    np.save(tmp_path / "x.npy", plain_models.stored((20, 48), 0))
    (tmp_path / "y.txt").write_text("0\n1\n2\n3\n4\n" * 4, encoding="utf-8")
    given = {"inputs": (str(tmp_path / "x.npy"),), "labels": tmp_path / "y.txt", "limit": None}
    runs = evaluate_each.evaluate_each_plain(paths, "host", "host", **given)
    assert runs[0].accuracy is not None and runs[1].accuracy is not None
    assert runs[0].accuracy == dataclasses.replace(runs[1].accuracy, reference=runs[0].accuracy.reference)
    text = comparison.text(Comparison(("a", "b"), tuple(runs)))
    assert "accuracy" in text and "the same throughout" in text and "another class than the reference" in text
    found = runs[0].accuracy
    assert found is not None and found.outcomes is not None and found.outcomes.right is not None
    assert found.outcomes.right.count("1") / 20 == found.accuracy


def test_file_says_all_of_it(folder: Path) -> None:
    runs = measured(folder, "int8", "int4", reference=folder / "float32.tflite")
    data = comparison.as_json(Comparison(("a", "b"), tuple(runs)))
    assert data["schema"] == "edge.comparison/1" and data["names"] == ["a", "b"]
    assert [records.from_json(run) for run in data["runs"]] == runs
    assert {each["figure"] for each in data["differences"]} == {"perplexity", "bits_per_byte", "kl", "top1"}
    for each in data["differences"]:
        assert (each["run"], each["base"]) == ("b", "a")
        value = [run["accuracy"][each["figure"]] for run in data["runs"]]
        assert each["value"] == pytest.approx(value[1] - value[0], rel=1e-6)
        assert each["interval_95"][0] < each["value"] < each["interval_95"][1]


def test_reports_read_it(folder: Path, tmp_path: Path) -> None:
    runs = measured(folder, "int8", "int4", limit=20)
    data = comparison.as_json(Comparison(("a", "b"), tuple(runs)))
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert report.report([path]) == runs
    data["runs"][1]["accuracy"]["perplexity"] = 1.0
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadFile, match="changed after it was written"):
        report.report([path])


def test_names_do_no_harm(folder: Path) -> None:
    runs = measured(folder, "int8", "int4", limit=20)
    text = comparison.text(Comparison(("a\x1b[31m\n", "b\u202e"), tuple(runs)))
    assert "\x1b" not in text and "\u202e" not in text
    assert "no interval" in text and "too little data to tell" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("right", "01x"), ("right", 1), ("nats", [1.0, "a"]), ("nats", [1.0]), ("kl", [-1.0, 0.0]), ("tokens", [0.5, 1])],
)
def test_records_refuse_outcomes_that_cannot_be(folder: Path, key: str, value: Any) -> None:
    outcomes = {"tokens": [4, 4], "bytes": [9, 9], "nats": [2.0, 3.0], "kl": None, "agreed": None, "right": None}
    data = records.to_json(RECORD)
    data["accuracy"]["outcomes"] = outcomes
    records.from_json(signed(data))
    outcomes[key] = value
    with pytest.raises(ValueError, match=r"accuracy\.outcomes"):
        records.from_json(signed(data))


def test_records_of_before_are_read() -> None:
    data = {**records.to_json(RECORD), "schema": "edge.run/1"}
    for key in ("intervals_95", "outcomes"):
        del data["accuracy"][key]
    found = records.from_json(signed(data))
    assert found.accuracy == RECORD.accuracy and found.schema == "edge.run/1"
