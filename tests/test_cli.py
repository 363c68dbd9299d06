"""The command line as a whole: fast help, the same options everywhere, JSON, and errors that stay one message."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from edge import __version__, cli, zoo
from edge.decide import report
from edge.make import checkpoints, convert
from edge.measure import record as records
from edge.terminal import clean, one_line
from firmware_tools import graph
from tests import tiny
from tests.test_record import RECORD

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = 'x\x1b]0;owned\x07\x1b[31m*/"\n|`<script>\u202e\x9b2J'
DESIGN = {
    "Make": ("convert", "train", "inspect", "build"),
    "Run": ("flash", "deploy", "run"),
    "Measure": ("bench", "eval"),
    "Decide": ("report",),
    "Setup": ("demo", "models", "boards", "ports", "selftest", "doctor"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    convert.save(convert.convert(tiny.checkpoint()), folder / "tiny.tflite")
    hostile = {"name": HOSTILE, "licence": HOSTILE, "source": HOSTILE}
    convert.save(convert.convert(tiny.checkpoint(card=hostile)), folder / "hostile.tflite")
    (folder / "text.txt").write_text("eat a date in rain", encoding="utf-8")
    records.write(RECORD, folder / "run.json")
    return folder


def edge(*words: object, text: str | None = None) -> Result:
    result = CliRunner().invoke(cli.main, [str(word) for word in words], input=text)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def python(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, **options)


# ------------------------------------------------------------------------------------------------------------ help


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys; from edge.cli import main\n"
        "try: main(['--help'], prog_name='edge')\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'numpy', 'tensorflow', 'ai_edge_litert', 'tokenizers', 'unicorn', 'serial', 'rich', 'flatbuffers'}\n"
        "print(sorted(slow & set(sys.modules)), len(sys.modules))"
    )
    last = python("-c", program, check=True).stdout.splitlines()[-1]
    assert last.startswith("[] ")
    assert int(last.removeprefix("[] ")) < 250, "so few modules take far less than 0.2 s"


def test_help_is_grouped_as_designed() -> None:
    assert cli.GROUPS == DESIGN
    assert sorted(cli.main.commands) == sorted(name for names in DESIGN.values() for name in names)
    text = edge("--help").output
    places = [text.index(f"\n{group}:") for group in DESIGN]
    assert places == sorted(places)
    for group, names in DESIGN.items():
        part = text[text.index(f"\n{group}:") :]
        assert all(f"\n  {name}" in part for name in names)


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_command_explains_itself(name: str) -> None:
    result = edge(name, "--help")
    assert result.exit_code == 0 and "Usage: " in result.output
    for option in cli.main.commands[name].params:
        assert isinstance(option, click.Argument) or getattr(option, "help", None), f"{name} {option.name}"


def test_options_mean_the_same_everywhere() -> None:
    """An option has one type and one help text in all commands; -o and --json are there where they belong."""
    seen: dict[str, tuple[str, str]] = {}
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and option.name in (
                "tokens", "greedy", "seed", "context", "temperature", "top_p", "target", "quantize", "as_json"
            ):  # fmt: skip
                assert seen.setdefault(option.name, (str(option.type), str(option.help))) == (
                    str(option.type),
                    option.help,
                ), f"{name} --{option.name}"
        if name != "demo":
            assert "as_json" in {option.name for option in command.params}, f"{name} prints a result, so it has --json"


def test_bodies_are_thin() -> None:
    """A command reads arguments, calls one function and prints."""
    tree = ast.parse((ROOT / "edge" / "cli.py").read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and any("command" in ast.unparse(d) for d in function.decorator_list):
            body = [part for part in function.body[1:] if not isinstance(part, ast.ImportFrom)]
            assert sum(part.end_lineno - part.lineno + 1 for part in body if part.end_lineno) <= 10, function.name


def test_version() -> None:
    assert edge("--version").output == f"edge, version {__version__}\n"


def test_module_is_the_command() -> None:
    found = python("-m", "edge", "boards", "--json", check=True)
    assert [row["name"] for row in json.loads(found.stdout)] and found.stderr == ""


# ------------------------------------------------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "tiny.tflite"),
        ("inspect", "tiny.tflite", "--board", "virtual-m4", "--context", 12),
        ("build", "tiny.tflite", "--board", "virtual-m4", "-o", "image"),
        ("run", "tiny.tflite", "tin", "--tokens", 3),
        ("bench", "tiny.tflite", "--position", 3, "--repeats", 2, "-o", "bench.json"),
        ("eval", "tiny.tflite", "--text", "text.txt", "-o", "eval.json"),
        ("report", "run.json"),
        ("models",),
        ("boards",),
    ],
)
def test_json_is_json(folder: Path, words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = edge(*words, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    if "-o" in words and words[0] in ("bench", "eval"):
        assert found == json.loads((folder / str(words[-1])).read_text(encoding="utf-8"))
        assert records.to_json(records.read(folder / str(words[-1]))) == found


# -------------------------------------------------------------------------------------------------------- sampling


def answer(folder: Path, *options: object) -> list[int]:
    result = edge("run", folder / "tiny.tflite", "tin", "--tokens", 8, "--json", *options)
    ids: list[int] = json.loads(result.stdout)["ids"]
    return ids


def test_greedy_is_the_default_and_overrules(folder: Path) -> None:
    assert answer(folder) == answer(folder, "--greedy") == answer(folder, "--greedy", "--seed", 7)


def test_a_seed_decides(folder: Path) -> None:
    hot = ("--temperature", 5.0, "--seed")
    assert answer(folder, *hot, 1) == answer(folder, *hot, 1)
    assert len({tuple(answer(folder, *hot, seed)) for seed in range(4)}) > 1
    assert len({tuple(answer(folder, "--seed", seed)) for seed in range(6)}) > 1, "a seed alone samples, too"


def test_tokens_is_a_limit(folder: Path) -> None:
    for tokens in (1, 5):
        result = edge("run", folder / "tiny.tflite", "tin", "--tokens", tokens, "--json")
        assert len(json.loads(result.stdout)["ids"]) <= tokens
    assert json.loads(result.stdout)["ended"] in ("length", "stop")


def test_chat_answers_line_after_line(folder: Path) -> None:
    once = edge("run", folder / "tiny.tflite", "tin", "--tokens", 3).stdout
    assert edge("run", folder / "tiny.tflite", "--tokens", 3, text="tin\n\ntin").stdout == once * 2


# ---------------------------------------------------------------------------------------------------------- errors


def test_broken_pipe_is_quiet(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "edge", "inspect", str(folder / "tiny.tflite"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to the whole console")
def test_ctrl_c_stops_one_answer_of_a_chat(folder: Path) -> None:
    convert.save(convert.convert(tiny.checkpoint(context=3000, card={"stop_ids": []})), folder / "endless.tflite")
    command = [sys.executable, "-m", "edge", "run", str(folder / "endless.tflite")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, bufsize=0) as process:
        assert process.stdin and process.stdout
        for _ in range(2):
            process.stdin.write(b"tin\n")
            answer = process.stdout.read(3)
            assert answer
            process.send_signal(signal.SIGINT)
            while select.select([process.stdout], [], [], 1.0)[0]:  # what it said until it heard
                answer += process.stdout.read(1 << 16)
            assert answer.endswith(b"\n")
        process.stdin.close()
    assert process.returncode == 0, "it went on until its input ended"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x07", "\x7f", "\x9b", "\r", "\u202e", "\u2066"])
def test_terminal_text_is_clean(character: str) -> None:
    assert clean(f"a{character}b\n\tc") == "ab\n\tc"


def test_names_stay_on_their_line() -> None:
    assert one_line("a\n  b\tc\x1b") == "a b c"
    assert clean("half \udcff a surrogate").isprintable()


def is_harmless(text: str) -> bool:
    return clean(text) == text


@pytest.mark.parametrize("target", ["host", "virtual-m4"])
def test_hostile_names_do_no_harm(folder: Path, tmp_path: Path, target: str) -> None:
    model, run = folder / "hostile.tflite", tmp_path / "run.json"
    for words in (
        ("inspect", model),
        ("inspect", model, "--json"),
        ("run", model, "tin\x1b[31m", "--on", target, "--tokens", 4),
        ("bench", model, "--on", target, "--position", 2, "-o", run),
        ("report", run, "-o", tmp_path / "report.md"),
        ("run", folder / f"missing{HOSTILE}.tflite", "tin"),
        ("run", model, "tin", "--on", f"virtual-m4@{HOSTILE}"),
    ):
        result = edge(*words)
        assert is_harmless(result.output), words
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in page and is_harmless(page)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {rows[0].count("|")}


# ---------------------------------------------------------------------------------------------------------- report


def test_clocks_share_no_table() -> None:
    seconds = dataclasses.replace(RECORD, clock="seconds", emulated=False, target="host", board="host")
    tables = report.tables([RECORD, seconds, RECORD])
    assert [heading.split()[0] for heading, _ in tables] == ["Instructions", "Seconds"]
    assert "EMULATED" in tables[0][0] and "EMULATED" not in tables[1][0]
    for _, rows in tables:
        assert len(rows) == 2, "the same model on the same target is one row"
    assert "Energy was not measured" in report.text([RECORD])


def test_where_weights_lie_is_said_where_it_decides_the_speed() -> None:
    def column(clock: str, place: str | None) -> list[str]:
        memory = dataclasses.replace(RECORD.memory, weights_in=place)
        run = dataclasses.replace(RECORD, clock=clock, emulated=False, memory=memory)
        (_, rows), = report.tables([run])  # fmt: skip
        return [row[rows[0].index("weights in")] for row in rows[1:]] if "weights in" in rows[0] else []

    assert column("seconds", "flash") == ["flash"]
    assert column("seconds", "ram") == column("instructions", "ram") == ["RAM"]
    assert column("instructions", "flash") == column("seconds", None) == []


def test_what_was_not_measured_is_not_zero() -> None:
    nothing = dataclasses.replace(
        RECORD, prefill=records.Prefill(), decode=records.Decode(), memory=records.Memory(), accuracy=None
    )
    (_, rows), = report.tables([nothing])  # fmt: skip
    assert rows[0] == ["model", "target", "context"], "a column without a figure is left out"


# ------------------------------------------------------------------------------------------------------------- zoo


def test_zoo_names_are_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names = [entry.name for entry in zoo.entries()]
    assert "intent" in names
    for row in json.loads(edge("models", "--json").stdout):
        assert row["name"] in names and row["parameters"] > 0
        assert edge("inspect", row["name"]).exit_code == 0


def test_tasks_of_the_zoo_are_readable() -> None:
    from edge.measure.evaluate import read_task

    for entry in zoo.entries():
        assert set(entry.tasks) == {"seen", "held-out", "typo"}
        for path in entry.tasks.values():
            assert len(read_task(path)) > 100


# ------------------------------------------------------------------------------------------------------------ demo


def test_demo_walks_the_road(tmp_path: Path) -> None:
    """From anywhere, into the folder that was asked for: every step, its files, and records of what it shows."""
    found = python("-m", "edge", "demo", "--output", str(tmp_path / "demo"), cwd=tmp_path, check=True)
    steps = ["Convert", "Build", "Run", "Eval", "Bench", "Report", "What to try next"]
    places = [found.stdout.index(f"\n{step}") for step in steps]
    assert places == sorted(places) and found.stderr == ""
    assert "EMULATED" in found.stdout and found.stdout.count("      -> ") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    runs = {path.stem: records.read(path) for path in (tmp_path / "demo").glob("*.json")}
    assert sorted(runs) == ["bench", "held-out", "seen", "typo"]
    assert len({(run.model.sha256, run.image.sha256) for run in runs.values()}) == 1
    assert all(run.emulated and run.clock == "instructions" for run in runs.values())
    for task in ("seen", "held-out", "typo"):
        accuracy = runs[task].accuracy
        assert accuracy and accuracy.sample_size == 30 and accuracy.task_size and accuracy.task_size > 100
        assert f"{accuracy.exact_match:.3f}" in found.stdout


def test_shipped_model_is_made_of_its_checkpoint() -> None:
    for entry in zoo.entries():
        made = convert.convert(checkpoints.load(entry.folder / "checkpoint.npz"))
        assert graph.read(made).sha256 == graph.read(entry.model).sha256, f"convert models/{entry.name} again"
