"""tflite-runtime 2.14, still the runtime of 32-bit Raspberry Pis: what `--runtime 2.14` writes it computes rightly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import texts
import tiny
from oracle import divergence

from edge.make.convert import convert, save
from edge.run.host import TICKS, facts_of
from firmware_tools import fuse, graph
from firmware_tools.errors import LinkError, UserError
from firmware_tools.link import Link, PipeTransport
from tests.test_fuse import same

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 300
pytestmark = pytest.mark.xdist_group("old runtime")  # one installs it


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has tflite-runtime 2.14 and, as that needs it, numpy 1; nothing else."""
    if sys.platform != "linux" or sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has wheels for Linux and Python up to 3.11")
    folder = tmp_path_factory.mktemp("runtime")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    if subprocess.run([*pip, "tflite-runtime==2.14.0", "numpy==1.26.4"]).returncode:
        pytest.skip("pip cannot install tflite-runtime 2.14 here")
    return python


def agent(python: Path, file: Path) -> Link:
    """The agent as it runs on a Pi, in the older runtime."""
    command = [str(python), "-m", "edge.run.agent", str(file), "--facts", json.dumps(facts_of(file, graph.read(file)))]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, cwd=ROOT)
    return Link(PipeTransport(process), TICKS)


@pytest.mark.system
@pytest.mark.parametrize(("scheme", "limit"), [("int8", 0.003), ("float16", 1e-6)])
def test_it_computes_what_the_file_means(python: Path, tmp_path: Path, scheme: str, limit: float) -> None:
    checkpoint, spoken = texts.shipped()
    file, rows, truth = tmp_path / "model.tflite", [], []
    save(convert(checkpoint, scheme, runtime="2.14"), file)
    with agent(python, file) as link:
        assert link.hello().raw["runtime"] == "tflite_runtime 2.14.0"
        for tokens, logits in spoken:
            for position, token in enumerate(tokens):
                link.forward(token, position)
                rows.append(link.logits())
            truth += list(logits)
            if len(rows) >= TOKENS:
                break
    assert divergence(np.array(truth), np.array(rows)) < limit


@pytest.mark.system
def test_it_is_refused_what_it_would_get_wrong(python: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    save(convert(tiny.checkpoint(), "int8"), file)
    with (
        agent(python, file) as link,
        pytest.raises(LinkError, match="not written for tflite_runtime 2.14.*--runtime 2.14"),
    ):
        link.hello()


def test_a_board_computes_the_same_from_both_forms() -> None:
    for checkpoint in (tiny.checkpoint(), tiny.checkpoint(tied=False)):
        programs = [fuse.program(graph.read(convert(checkpoint, "int8", runtime=name))) for name in (None, "2.14")]
        assert same(*programs)


def test_only_schemes_that_it_computes() -> None:
    with pytest.raises(UserError, match="does not compute int4-32"):
        convert(tiny.checkpoint(), "int4-32", runtime="2.14")
    with pytest.raises(UserError, match="'1.0' is not a runtime"):
        convert(tiny.checkpoint(), "int8", runtime="1.0")
