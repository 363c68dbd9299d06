"""`--on ssh:…` from the command line, with a real sshd: what works as on the host, and what ends when a line drops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import plain_models
import pytest
import tiny
from deployed import children, command_line, lay_out, processes_in, until
from sshd import Sshd, sshd

from edge.make.convert import convert, save
from edge.run.agent import keeper
from edge.run.ssh import PROGRAM

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parent.parent
ENDLESS = ("--repeats", "1000000")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    save(convert(tiny.checkpoint(), prefill=8), folder / "tiny.tflite")
    save(convert(tiny.checkpoint(1), prefill=8), folder / "elsewhere.tflite")
    save(convert(tiny.checkpoint(2), prefill=8), folder / "again.tflite")
    (folder / "classes.tflite").write_bytes(plain_models.classifier(signatures=("first", "second")))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not shutil.which("ssh") or not shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("ssh and sshd are not installed")
    with sshd(tmp_path_factory.mktemp("ssh") / "server") as running:
        lay_out(running.home, models["tiny"], models["again"], models["classes"])
        yield running


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edge", *map(str, words)]


def edge(server: Sshd, *words: object, code: int = 0) -> str:
    """stdout, or stderr where it fails as expected."""
    done = subprocess.run(
        command(*words), capture_output=True, text=True, env=server.environment, cwd=ROOT, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert until(lambda: not processes_in(server.home))
    return done.stderr if code else done.stdout


def test_run(server: Sshd, models: dict[str, Path]) -> None:
    of_classes = (models["classes"], "--input", ",".join(["1"] * 48), "--signature", "second")
    for words in ((models["tiny"], "hello", "--tokens", 9), of_classes):
        expected, told = (edge(server, "run", *words, "--on", on) for on in ("host", "ssh:pi-by-alias"))
        assert told == expected


def test_chat(server: Sshd, models: dict[str, Path]) -> None:
    line = command("run", models["tiny"], "--on", server.target, "--tokens", 5)
    done = subprocess.run(
        line, input="hello\nhello\n", capture_output=True, text=True, env=server.environment, cwd=ROOT
    )
    assert done.returncode == 0 and done.stdout.strip()


def test_bench(server: Sshd, models: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    edge(server, "bench", models["tiny"], "--on", server.target, "--repeats", 2, "-o", record)
    told = json.loads(record.read_text())
    assert (told["target"], told["board"], told["clock"]) == (server.target, keeper._board(), "seconds")
    assert told["tools"]["kernels"] == "xnnpack" and told["decode"]["median"] > 0
    assert told["machine"]["kernel"] == os.uname().release


def test_eval(server: Sshd, models: dict[str, Path], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("hello there, hello again\n" * 5)
    results = []
    for on in ("host", server.target):
        words = ("eval", models["tiny"], "--on", on, "--text", text, "--reference", models["tiny"], "--json")
        results.append(json.loads(edge(server, *words))["accuracy"])
    assert results[0] == results[1] and results[1]["kl"] == 0


def test_several_models_are_one_login(server: Sshd, models: dict[str, Path], tmp_path: Path) -> None:
    text, program = tmp_path / "text.txt", tmp_path / "ssh"
    text.write_text("hello there, hello again\n" * 5)
    program.write_text(f'#!/bin/sh\necho login >> {tmp_path}/logins\nexec ssh "$@"\n')
    program.chmod(0o755)
    environment = {**server.environment, PROGRAM: f"{program} -F {server.folder / 'client'}"}
    both = (models["tiny"], models["again"])
    line = command("eval", *both, "--on", server.target, "--text", text, "--json")
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "logins").read_text() == "login\n"
    here = json.loads(edge(server, "eval", *both, "--text", text, "--json"))
    runs, expected = (
        [run["accuracy"]["perplexity"] for run in told["runs"]] for told in (json.loads(done.stdout), here)
    )
    assert runs == expected and runs[0] != runs[1]
    assert until(lambda: not processes_in(server.home))


def test_what_is_refused(server: Sshd, models: dict[str, Path]) -> None:
    target = server.target
    said = edge(server, "run", models["elsewhere"], "x", "--on", target, code=1)
    assert "does not hold that model" in said and f"hint: edge deploy {models['elsewhere']} --to {target}" in said
    assert "--toolchain has no use" in edge(
        server, "run", models["tiny"], "x", "--on", target, "--toolchain", "zig", code=1
    )
    assert "nothing of edge is installed" in _without_home(server, models["tiny"])


def _without_home(server: Sshd, model: Path) -> str:
    hidden = server.home.with_name("hidden")
    server.home.rename(hidden)
    try:
        return edge(server, "run", model, "x", "--on", server.target, code=1)
    finally:
        hidden.rename(server.home)


@pytest.fixture
def endless(server: Sshd, models: dict[str, Path]) -> Iterator[subprocess.Popen[str]]:
    """A measurement that goes on over there."""
    settings = {PROGRAM: f"ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=2 -F {server.folder / 'client'}"}
    process = subprocess.Popen(
        command("bench", models["tiny"], "--on", server.target, *ENDLESS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings},
        cwd=ROOT,
        start_new_session=True,
    )
    assert until(lambda: len(processes_in(server.home)) > 0, 60)
    time.sleep(1.0)  # it is loaded then, or nearly; both are to be survived
    yield process
    process.kill()
    process.communicate()
    assert until(lambda: not processes_in(server.home))


def ended(process: subprocess.Popen[str]) -> tuple[int, Sequence[str]]:
    _, said = process.communicate(timeout=60)
    return process.returncode, said.strip().splitlines()


def test_the_server_drops_the_line(server: Sshd, endless: subprocess.Popen[str]) -> None:
    server.drop()
    code, said = ended(endless)
    assert code == 1 and len(said) == 2
    assert said[0] == f"edge: the connection to {server.target} was lost"


def test_ssh_is_killed(server: Sshd, endless: subprocess.Popen[str]) -> None:
    (client,) = (pid for pid in children(endless.pid) if command_line(pid).startswith("ssh "))
    os.kill(client, signal.SIGKILL)
    code, said = ended(endless)
    assert code == 1 and "ssh was killed by signal 9" in said[0]


def test_the_network_is_gone(server: Sshd, endless: subprocess.Popen[str]) -> None:
    """The other end says nothing any more; as far as this one can tell, its cable was pulled."""
    sessions = server.sessions()
    for pid in sessions:
        os.kill(pid, signal.SIGSTOP)
    try:
        code, said = ended(endless)
    finally:
        for pid in sessions:
            os.kill(pid, signal.SIGCONT)
    assert code == 1 and said[0].endswith("was lost")


def test_ctrl_c(server: Sshd, endless: subprocess.Popen[str]) -> None:
    os.killpg(endless.pid, signal.SIGINT)  # as a terminal does: ssh, too
    assert ended(endless) == (130, ["edge: interrupted"])


def test_a_model_that_dies_there(server: Sshd, endless: subprocess.Popen[str]) -> None:
    (agent,) = processes_in(server.home)
    os.kill(agent, signal.SIGKILL)
    code, said = ended(endless)
    assert code == 1 and "process ended: Killed; memory may be short" in said[0]
