"""Host and device hold the same file and agree: the gates on accuracy, teacher-forced over more than 2,000 tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import texts
from oracle import Array, divergence

from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.run.generate import answer
from edge.run.host import open_host
from edge.run.target import open_target
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.link import Link
from firmware_tools.sampler import Sampler

DEVICE_KL = 0.005  # nats per token: of the device from the float model, and from the host
HOST_TOP1 = 0.96
FLOAT_CACHE_KL = 0.0005  # of the device with a float32 KV cache from LiteRT's reference kernels, which round rows alike


def answers(link: Link, spoken: texts.Texts) -> Array:
    """The logits after every token, each text from an empty context."""
    rows = []
    with link:
        for tokens, _ in spoken:
            for position, token in enumerate(tokens):
                link.forward(token, position)
                rows.append(link.logits())
    return np.array(rows)


def check(model: tuple[Checkpoint, texts.Texts], context: int, folder: Path) -> None:
    checkpoint, spoken = model
    truth = np.concatenate([rows for _, rows in spoken])
    assert len(truth) >= texts.LEAST
    file, board = folder / "model.tflite", boards.load("virtual-m4")
    file.write_bytes(convert(checkpoint, "int8", context))
    image = build.build(compile_model(graph.read(file), board), board)
    device, host = answers(unicorn.open(image), spoken), answers(open_host(file), spoken)
    same = float(np.mean(device.argmax(1) == host.argmax(1)))
    print(
        f"KL from float: device {divergence(truth, device):.4f}, host with XNNPACK {divergence(truth, host):.4f}; "
        f"device from host: KL {divergence(host, device):.4f}, top-1 {same:.3f}; {len(truth)} tokens"
    )
    assert divergence(truth, device) <= DEVICE_KL
    assert divergence(host, device) <= DEVICE_KL
    assert same >= HOST_TOP1


@pytest.mark.parametrize("name", ["shipped", "stories"])
def test_with_a_float_cache_the_same_scheme_agrees_to_rounding(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """XNNPACK gives rows a zero point, which the device and the reference kernels do not."""
    checkpoint, spoken = texts.stories(request.getfixturevalue("shared_data")) if name == "stories" else texts.shipped()
    spoken = spoken[: 3 if name == "stories" else 20]
    file, board = tmp_path / "model.tflite", boards.load("virtual-m4+float-cache")
    file.write_bytes(convert(checkpoint, "int8", max(len(tokens) for tokens, _ in spoken)))
    image = build.build(compile_model(graph.read(file), board), board)
    device, host = answers(unicorn.open(image), spoken), answers(open_host(file, kernels="reference"), spoken)
    assert len(device) >= 500
    print(f"KL of the device from the reference kernels {divergence(host, device):.5f}; {len(device)} tokens")
    assert divergence(host, device) <= FLOAT_CACHE_KL


def test_shipped_model(tmp_path: Path) -> None:
    check(texts.shipped(), 96, tmp_path)


def test_stories(shared_data: Path, tmp_path: Path) -> None:
    check(texts.stories(shared_data), 256, tmp_path)


@pytest.mark.parametrize("prompt", ["turn the kitchen lamp down to 20 percent", "lock the front door"])
def test_both_give_the_same_answer(prompt: str, tmp_path: Path) -> None:
    """Long greedy texts may part, since the caches differ; a short answer must not."""
    file = tmp_path / "intent.tflite"
    file.write_bytes(convert(texts.shipped()[0]))
    given = []
    for target in ("host", "virtual-m4"):
        with open_target(target, file) as running:
            given.append(answer(running, prompt, 32, Sampler()).text)
    assert given[0] == given[1] != ""
