"""run, bench, eval and inspect of plain models: numbers in, figures and records out, and the errors between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import plain_models
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_models import Lite, stored

from edge import inputs
from edge.cli import main
from edge.decide import profile, report
from edge.make import inspect
from edge.measure import record as records
from edge.measure.bench_plain import bench_plain
from edge.measure.evaluate_plain import auc, evaluate_plain, macro_f1
from edge.run import infer
from edge.run.plain import open_plain
from firmware_tools.errors import BadFile, LinkError, UserError
from firmware_tools.program import Border

IMAGE = Border("image", 0, "int8", (1, 8, 6, 1), 0.05, -4)
LEFT, RIGHT = Border("left", 0, "int8", (1, 8), 0.05, 0), Border("right", 1, "int8", (1, 8), 0.05, 0)
IDS = Border("ids", 0, "int32", (1, 4), None, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, samples of the classifier, and their classes by LiteRT."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("classifier", "two_inputs", "autoencoder", "unsupported"):
        (folder / f"{name}.tflite").write_bytes(getattr(plain_models, name)())
    samples = stored((30, 8, 6, 1), 7)
    np.save(folder / "x.npy", samples)
    lite = Lite(plain_models.classifier())
    found = np.array([np.argmax(lite.run(x[None])[0]) for x in samples])
    np.save(folder / "y.npy", found)
    (folder / "y.txt").write_text("\n".join(map(str, found)), encoding="utf-8")
    (folder / "labels.txt").write_text("zero\none\ntwo\nthree\nfour\n", encoding="utf-8")
    np.savetxt(folder / "one.csv", samples[0].reshape(8, 6) * 0.05, delimiter=",")
    return folder


def edge(*words: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(main, [str(word) for word in words])


# --- inputs


def test_stored_numbers_are_taken_as_they_are(folder: Path) -> None:
    batch = inputs.many([str(folder / "x.npy")], [IMAGE])
    assert len(batch) == 30
    assert all(np.array_equal(x, row[None]) for (x,), row in zip(batch, np.load(folder / "x.npy"), strict=True))


def test_real_numbers_are_quantized(folder: Path) -> None:
    """As TFLite does: to the nearest, halves away from zero, clamped; 0.05 and -4 are scale and zero point."""
    (x,) = inputs.one(["0.05,-0.05,0.124,0.126,100,-100,0.075,-0.075"], [LEFT])
    assert x.tolist() == [[1, -1, 2, 3, 127, -128, 2, -2]]
    (image,) = inputs.one([str(folder / "one.csv")], [IMAGE])
    assert np.array_equal(image, np.clip(np.load(folder / "x.npy")[:1].astype(int) - 4, -128, 127))


def test_several_inputs_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(16, dtype=np.int8).reshape(2, 8))
    np.save(tmp_path / "b.npy", np.ones((2, 8), np.int64))
    batch = inputs.many([f"right={tmp_path / 'b.npy'}", f"left={tmp_path / 'a.npy'}"], [LEFT, RIGHT])
    assert [(left[0, 0], right[0, 0]) for left, right in batch] == [(0, 1), (8, 1)]
    assert batch[0][1].dtype == np.int8


@pytest.mark.parametrize(
    ("specs", "borders", "message"),
    [
        (
            ["1,2,3"],
            [LEFT],
            r"1,2,3 has the shape \[3\], and the model wants int8\[1, 8\], or real numbers that its scale",
        ),
        (["1"], [LEFT, RIGHT], "--input 1 does not say which input it is for"),
        (["left=1,2,3,4,5,6,7,8"], [LEFT, RIGHT], "the model wants the input right: int8"),
        (["1,2,3,4,5,6,7,8"] * 2, [LEFT], "the input left is given twice"),
        ([], [LEFT], "the model wants the input left"),
        (["1,2,nan,4,5,6,7,8"], [LEFT], "numbers that are not finite"),
        (["1,2,x"], [LEFT], "1,2,x is neither a file nor numbers"),
        (["1,2.5,3,4"], [IDS], "numbers that are not whole"),
        (["1,2,3,3000000000"], [IDS], "3e\\+09, and int32 holds -2147483648 to 2147483647"),
        (["missing.npy"], [IDS], "missing.npy cannot be read"),
    ],
)
def test_inputs_that_do_not_fit(specs: list[str], borders: list[Border], message: str) -> None:
    with pytest.raises(UserError, match=message):
        inputs.many(specs, borders)


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    def refuse(array: np.ndarray, border: Border, message: str) -> None:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(UserError, match=message):
            inputs.many([str(tmp_path / "x.npy")], [border])

    refuse(np.zeros((6, 8)), IMAGE, r"the shape \[6, 8\]")
    refuse(np.zeros((3, 47)), IMAGE, r"the shape \[3, 47\]")
    refuse(np.full((8, 6), 200), IMAGE, "200, and int8 holds -128 to 127")
    refuse(np.array(["a"] * 48), IMAGE, "not an .npy of numbers")
    refuse(np.zeros((0, 8, 6)), IMAGE, "not an .npy of numbers")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(BadFile, match="not an .npy of numbers"):
        inputs.many([str(tmp_path / "x.npy")], [IMAGE])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_quantizing_gives_stored_numbers_back(seed: int) -> None:
    x = stored((1, 8, 6, 1), seed)
    assert np.array_equal(inputs.as_stored(inputs.as_real(x, IMAGE).astype(np.float64), IMAGE, "x"), x)


# --- figures


def brute_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    return float(np.mean(pairs))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_auc_and_f1_are_those_of_their_definitions(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 6, (40, classes)) / 5  # many ties
    truth = random.integers(0, max(classes, 2), 40)
    found = random.integers(0, max(classes, 2), 40)
    labels = np.unique(truth)
    if classes > 2:
        expected = np.mean([brute_auc(scores[:, label], truth == label) for label in labels])
    else:
        expected = brute_auc(scores[:, -1], truth == 1) if labels.size > 1 else None
    given = auc(scores, truth)
    assert given is None if expected is None else abs(given - expected) < 1e-12
    f1 = []
    for label in set(truth) | set(found):
        right = sum(1 for a, b in zip(truth, found, strict=True) if a == b == label)
        precision, recall = right / max(sum(found == label), 1), right / max(sum(truth == label), 1)
        f1.append(2 * precision * recall / (precision + recall) if right else 0.0)
    assert abs(macro_f1(found, truth) - np.mean(f1)) < 1e-12


@pytest.mark.parametrize("target", ["host", "virtual-m4"])
def test_evaluation(folder: Path, target: str) -> None:
    model = folder / "classifier.tflite"
    with open_plain(target, model) as running, open_plain("host", model, kernels="reference") as reference:
        result = evaluate_plain(running, [str(folder / "x.npy")], folder / "y.npy", reference)
    figures = result.accuracy
    assert figures is not None and figures.reference is not None
    assert figures.sample_size == 30 and figures.classes == 5 and figures.interval_95 is not None
    if target == "virtual-m4":  # bit for bit the reference kernels, which gave the labels; XNNPACK may differ
        assert (figures.accuracy, figures.macro_f1, figures.disagreement, figures.max_difference) == (
            1.0,
            1.0,
            0.0,
            0.0,
        )
    assert figures.accuracy is not None and figures.accuracy >= 0.9
    assert records.from_json(records.to_json(result)) == result
    text = report.text([result])
    assert f"accuracy {figures.accuracy:.3f}" in text and "macro-F1" in text and "AUC" in text and "30 samples" in text
    assert result.context is None and result.model.tokenizer_sha256 is None and result.model.quantization == "int8"


def test_labels_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    def refuse(model: str, given: str, labels: str, message: str) -> None:
        (tmp_path / "labels.csv").write_text(labels, encoding="utf-8")
        with open_plain("host", folder / f"{model}.tflite") as running, pytest.raises(UserError, match=message):
            evaluate_plain(running, [given], tmp_path / "labels.csv")

    x = str(folder / "x.npy")
    refuse("classifier", x, "1,2", "2 labels for 30 samples")
    refuse("classifier", x, "\n".join(["5"] * 30), "a label that is no class from 0 to 4")
    refuse("classifier", x, "\n".join(["0.5"] * 30), "a label that is no class from 0 to 4")
    refuse("autoencoder", "1,2,3,4,5,6,7,8", "1", "its numbers are no classes")


def test_bench_counts_inferences(folder: Path) -> None:
    with open_plain("virtual-m4", folder / "classifier.tflite", counting=True) as running:
        result = bench_plain(running, [], 3)
        again = bench_plain(running, [str(folder / "one.csv")], 1)
    costs = result.inference
    assert costs.median is not None and costs.repeats == (costs.median,) * 3 and costs.median > 1000
    assert again.inference.median is not None
    assert result.decode.median is None and result.prefill.per_token is None
    assert result.memory.input_bytes == 48 and result.memory.kv_cache_bytes == 0
    assert records.from_json(records.to_json(result)) == result
    with open_plain("host", folder / "classifier.tflite", counting=True) as running:
        timed = bench_plain(running, [], 3)
    assert timed.clock == "seconds" and len(timed.inference.repeats) == 3
    assert timed.inference.median is not None and 0 < timed.inference.median < 60
    assert "inference" in report.text([result]) and "inference" in report.text([timed])


@pytest.mark.parametrize("target", ["virtual-m4", pytest.param("virtual-m4@qemu", marks=pytest.mark.system)])
def test_a_profile_adds_up(folder: Path, target: str, tool) -> None:  # type: ignore[no-untyped-def]
    if target.endswith("qemu"):
        tool("qemu-system-arm")
    with open_plain(target, folder / "classifier.tflite", counting=True) as running:
        result = bench_plain(running, [], 1, profiled=True)
    assert result.profile is not None and result.inference.median is not None and result.profile.position is None
    parts = result.profile.parts
    assert [(part.op, part.layer) for part in parts] == [
        ("conv_2d", "operator 0"),
        ("pool_2d", "operator 1"),
        ("fully_connected_int8", "operator 3"),
        ("softmax", "operator 4"),
    ]
    assert parts[0].shape == "48→192" and all(part.instructions > 50 for part in parts)
    assert abs(sum(part.instructions for part in parts) - result.inference.median) < 60  # QEMU's clock ticks in 40s
    assert records.from_json(records.to_json(result)) == result
    assert "Profile of an inference" in profile.text(result.profile)
    with open_plain("host", folder / "classifier.tflite") as running, pytest.raises(UserError, match="call by call"):
        bench_plain(running, [], 1, profiled=True)


def test_another_model_on_the_port_is_refused(folder: Path) -> None:
    """The facts are compared with the file that was named."""
    with open_plain("host", folder / "classifier.tflite") as running, pytest.raises(LinkError, match="another model"):
        running.link.expect_model("0" * 64)


def test_inference_of_two_inputs(folder: Path) -> None:
    numbers = ["left=1,2,3,4,5,6,7,8", "right=0.1,0,0,0,0,0,0,0.2"]
    with open_plain("virtual-m4", folder / "two_inputs.tflite") as running:
        result = infer.infer(running, numbers, None)
    lite = Lite(plain_models.two_inputs())
    left, right = inputs.many(numbers, [LEFT, RIGHT])[0]
    for output, expected in zip(result.outputs, lite.run(left, right), strict=True):
        assert np.array_equal(output.stored, expected)
        assert np.allclose(output.real, (expected.astype(float) - 3) * 0.3)
    assert infer.text(result).splitlines()[0] == "both: int8[1, 3]"


# --- the command line


def test_run_with_labels(folder: Path) -> None:
    model, one = folder / "classifier.tflite", folder / "one.csv"
    result = edge("run", model, "--input", one, "--labels", folder / "labels.txt", "--on", "virtual-m4")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {name for name, _ in lines} == {"zero", "one", "two", "three", "four"}
    assert [float(score) for _, score in lines] == sorted((float(score) for _, score in lines), reverse=True)
    data = json.loads(edge("run", model, "--input", one, "--labels", folder / "labels.txt", "--json").stdout)
    assert data["clock"] == "seconds" and len(data["top"]) == 5 and data["outputs"][0]["shape"] == [1, 5]
    short = folder / "short.txt"
    short.write_text("a\nb\n", encoding="utf-8")
    refused = edge("run", model, "--input", one, "--labels", short)
    assert refused.exit_code == 1 and "2 labels, and the model's first output 5 numbers" in refused.stderr


def test_every_command(folder: Path, tmp_path: Path) -> None:
    model, x = folder / "classifier.tflite", folder / "x.npy"
    for words in (
        ("inspect", model),
        ("inspect", model, "--board", "virtual-m4", "--json"),
        ("build", model, "--board", "virtual-m4", "-o", tmp_path / "image"),
        ("bench", model, "--on", "virtual-m4", "-o", tmp_path / "bench.json"),
        ("bench", model, "--input", folder / "one.csv"),
        ("eval", model, "--input", x, "--labels", folder / "y.txt", "-o", tmp_path / "eval.json"),
        ("eval", model, "--input", x, "--reference", "host", "--limit", 3),
        ("eval", model, "--input", x, "--reference", model, "--on", "virtual-m4"),
        ("report", tmp_path / "bench.json", tmp_path / "eval.json"),
    ):
        result = edge(*words)
        assert result.exit_code == 0, (words, result.output)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "classifier.tflite", "hello"), "PROMPT does not go with classifier.tflite"),
        (("run", "classifier.tflite", "--context", "12", "--input", "1"), "--context does not go with"),
        (("run", "intent", "--input", "1"), "--input does not go with intent.tflite: it is a language model"),
        (("bench", "classifier.tflite", "--position", "3"), "--position does not go with"),
        (("eval", "classifier.tflite", "--text", "x.txt"), "--text does not go with"),
        (("eval", "classifier.tflite", "--input", "1"), "give --input, and --labels or --reference or both"),
        (("eval", "intent", "--labels", "x.txt"), "--labels does not go with"),
    ],
)
def test_wrong_usage(folder: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = edge(*words)
    assert result.exit_code == 2 and message in result.stderr, result.output


def test_inspect_tells_all_that_is_unsupported(folder: Path) -> None:
    summary = inspect.summarize(folder / "unsupported.tflite")
    assert [refusal.op for refusal in summary.unsupported] == ["SEGMENT_SUM", "CUMSUM"]
    data = json.loads(edge("inspect", folder / "unsupported.tflite", "--json").stdout)
    assert [refusal["tensor"] for refusal in data["unsupported"]] == ["a", "y"] and data["kind"] == "plain"
    assert data["reason"].startswith("boards do not compute operator 0, SEGMENT_SUM (tensor 'a')")
    refused = edge("build", folder / "unsupported.tflite", "--board", "virtual-m4", "-o", folder / "none")
    assert refused.exit_code == 1 and data["reason"] in refused.stderr
    assert edge("inspect", folder / "unsupported.tflite").exit_code == 0


def test_inspect_of_a_model_that_fits(folder: Path) -> None:
    summary = inspect.summarize(folder / "classifier.tflite", "virtual-m4")
    (fit,) = summary.fits
    assert fit.input_bytes == 48 and not fit.ram_missing_bytes and summary.reason is None
    assert summary.calls == {"conv_2d": 1, "pool_2d": 1, "fully_connected_int8": 1, "softmax": 1}
    text = inspect.text(summary)
    assert "image: int8[1, 8, 6, 1]" in text and "inputs 48, state 0" in text and "vocabulary" not in text
