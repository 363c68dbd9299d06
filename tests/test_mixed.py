"""The scheme `mixed`: what is chosen, within which budget, and that host and device run it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import lite
import numpy as np
import oracle
import pytest
import texts
import tiny
from click.testing import CliRunner
from native import same_bits
from test_rounding import kl, stories_samples, weight_bytes

from edge.cli import main
from edge.make.calibrate import Calibration, own_samples
from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.make.quantize import mixed, per_row
from edge.make.quantize.mixed import Budget, Chosen, choose
from firmware_tools import boards, build, fuse, graph, interpret
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.errors import UserError

M4 = boards.load("virtual-m4")


@cache
def checkpoint() -> Checkpoint:
    """Its first o adds next to nothing: the bits of that layer's q, k and v cannot matter, and its own hardly."""
    made = tiny.checkpoint(dim=64, hidden_dim=44)
    return replace(made, weights={**made.weights, "0.o": made.weights["0.o"] * np.float32(1e-3)})


@cache
def samples() -> Calibration:
    return own_samples(checkpoint(), 2400)


@cache
def chosen(**budget: float) -> Chosen:
    table = per_row(checkpoint().weights["embedding"], 8)
    return choose(checkpoint().architecture, checkpoint().weights, table, samples().ids, Budget(**budget))


def in_8_bits(made: Chosen) -> list[str]:
    return [name for name, form in made.forms.items() if form.bits == 8]


@pytest.mark.parametrize("size", [0.99, 0.9, 0.85])
def test_a_size_is_kept_and_used(size: float) -> None:
    """The file is no larger, and no matrix in 4 bits could have 8."""
    data = convert(checkpoint(), "mixed", calibration=samples(), budget=Budget(size=size))
    whole = weight_bytes(convert(checkpoint(), "int8"))
    made = chosen(size=size)
    assert weight_bytes(data) / whole == pytest.approx(made.size) and made.size <= size
    card = graph.read(data).card
    assert card["quantization"] == "mixed" and card["mixed"]["size"] == pytest.approx(made.size, rel=1e-3)
    stored = {
        t.name: t.dtype for t in graph.read(data).subgraphs[0].tensors if t.name in made.forms and t.data is not None
    }
    assert stored == {name: form.split("-")[0] for name, form in card["mixed"]["matrices"].items()}
    for name in set(made.forms) - set(in_8_bits(made)):
        rows, columns = made.matrices[name].values.shape
        assert made.size + (rows * columns // 2 - made.matrices[name].scales.nbytes + rows * 4) / whole > size  # type: ignore[union-attr]


def test_what_costs_nothing_comes_first() -> None:
    made = chosen(size=0.99)
    idle = ["0.o", "0.qkv"]
    assert sorted(made.sensitivity, key=made.sensitivity.__getitem__)[:2] in (idle, idle[::-1])
    assert not {"0.o", "0.qkv"} <= set(in_8_bits(made)) and made.sensitivity["0.o"] < 1e-4


def test_a_kl_is_kept_and_used() -> None:
    """The larger the budget the smaller the file; what is promised is what LiteRT shows on other texts, about."""
    tight, loose = chosen(kl=0.004), chosen(kl=0.01)
    assert tight.kl <= 0.004 < loose.kl <= 0.01 and loose.size < tight.size < 1
    data = convert(checkpoint(), "mixed", calibration=samples(), budget=Budget(kl=0.01))
    spoken = [oracle.sample(checkpoint(), 24, seed) for seed in range(20)]
    assert kl(data, checkpoint(), spoken) == pytest.approx(loose.kl, rel=0.5)


def test_budgets_out_of_reach() -> None:
    with pytest.raises(UserError, match="a size of 50.0% of int8's cannot be reached") as raised:
        chosen(size=0.5)
    assert "int8" in raised.value.hint
    with pytest.raises(UserError, match="a KL of 1e-06 cannot be reached: with all matrices in int8"):
        chosen(kl=1e-6)


def test_host_and_device_run_it(tmp_path: Path) -> None:
    """numpy and the emulated Cortex bit for bit, the host within what the int8 KV cache costs."""
    data = convert(checkpoint(), "mixed", calibration=samples(), budget=Budget(size=0.9))
    read = graph.read(data)
    program, model = fuse.program(read), lite.Model(data, "xnnpack")
    assert {"fully_connected", "fully_connected_int4"} <= {call.op for call in program.calls}
    run, host = interpret.start(program), []
    with unicorn.open(build.build(compile_model(read, M4), M4)) as link:
        expected = []
        for position, token in enumerate(oracle.sample(checkpoint(), 12, seed=3)[0]):
            expected.append(interpret.step(program, run, token, position))
            link.forward(token, position)
            assert same_bits(link.logits(), expected[-1])
            host.append(model.decode(token, position))
    assert oracle.divergence(np.array(host), np.array(expected)) < 0.01


def test_the_text_names_every_matrix() -> None:
    made = chosen(size=0.9)
    text = mixed.text(made.card())
    assert all(f" {name}" in text for name in made.forms) and f"{made.size:.1%}" in text


@pytest.mark.parametrize("wrong", [["--max-kl", ".1"], ["--quantize", "mixed", "--max-kl", ".1", "--max-size", ".9"]])
def test_usage(wrong: list[str]) -> None:
    result = CliRunner().invoke(main, ["convert", "x.bin", "-o", "y.tflite", *wrong])
    assert result.exit_code == 2 and "one of --max-kl and --max-size" in result.output


def test_stories(shared_data: Path) -> None:
    """In LiteRT with XNNPACK, over 2,048 tokens not calibrated on."""
    model, spoken = texts.stories(shared_data)
    data = convert(model, "mixed", 256, calibration=stories_samples(model), budget=Budget(size=0.72))
    share = weight_bytes(data) / weight_bytes(convert(model, "int8", 256))
    divergence = kl(data, model, spoken)
    print(f"mixed: KL {divergence:.5f} at {share:.3f} of int8's weight bytes, {len(data):,} bytes")
    assert divergence <= 0.045 and share <= 0.72
