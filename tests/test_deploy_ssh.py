"""Deploying over a real sshd, with real wheels for this machine's python3: from the first word to a text and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from sshd import Sshd, sshd

from edge.make import convert
from edge.run import ssh
from edge.run.pi import deploy, visit
from firmware_tools.errors import LinkError

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tool) -> Iterator[Sshd]:  # type: ignore[no-untyped-def]
    for name in ("ssh", "ssh-keygen"):
        tool(name)
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def edge(server: Sshd, *words: str) -> str:
    environment = {**server.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "edge", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_whole_road(server: Sshd) -> None:
    base = server.home / ".local" / "share" / "edge"
    assert "no runtime is deployed yet" in edge(server, "doctor", server.target)
    assert not base.exists()
    first = json.loads(edge(server, "deploy", "intent", "--to", server.target, "--json"))
    assert first["runtime"].startswith("ai_edge_litert ") and first["model_sent_bytes"] == first["model_bytes"]
    assert 10e6 < first["runtime_sent_bytes"] < 40e6
    assert not list((base / "runtime").rglob("libLiteRtWebGpuAccelerator*"))
    second = edge(server, "deploy", "intent", "--to", server.target)
    assert "nothing to do: all of it is there" in second
    said = edge(server, "doctor", server.target)
    assert (
        f"runtime {first['runtime_sha256'][:12]} is deployed" in said and f"model {first['model_sha256'][:12]}" in said
    )
    words = ("run", "intent", "turn on the light in the kitchen", "--json")
    there, here = (json.loads(edge(server, *words, "--on", target)) for target in (server.target, "host"))
    assert there == here and there["text"]
    assert not server.running()


def test_a_connection_that_is_cut_is_gone_on_with(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ssh.PROGRAM, server.ssh)
    monkeypatch.setattr(visit, "CHUNK_BYTES", 1 << 16)
    model = tmp_path / "large.tflite"
    model.write_bytes(convert.convert(tiny.checkpoint(vocab_size=300, dim=256, hidden_dim=1024, layers=4)))
    destination = ssh.parse(server.target)

    def cut(what: str, done: int, total: int) -> None:
        if what == "model" and done > total / 2:
            server.drop()

    lost = pytest.raises(LinkError, match=f"the connection to {server.target} was lost")
    with lost, deploy.visit(destination) as there:
        deploy.deploy(model, there, server.target, cut)
    with deploy.visit(destination) as there:
        done = deploy.deploy(model, there, server.target, lambda *words: None)
    assert 0 < done.model_sent_bytes <= 0.6 * done.model_bytes
    removed = json.loads(edge(server, "deploy", "--remove", "--to", server.target, "--json"))
    assert removed["everything"] and done.model_sha256 in removed["models"]
    assert not (server.home / ".local" / "share" / "edge").exists()
