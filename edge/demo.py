"""The whole road in seconds, offline: the shipped model from its checkpoint to the answers of a virtual board.

Each step does what the command beside it does, by the same functions. The image is built once; its files go to a
temporary folder, or to the one that was asked for.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge import zoo
from edge.decide import report
from edge.make import checkpoints, convert, inspect
from edge.measure import record as records
from edge.measure.bench import bench
from edge.measure.evaluate import evaluate
from edge.run import generate
from edge.run.target import Running, attach, open_image
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.errors import BadFile

MODEL, BOARD, EMULATOR = "intent", "virtual-m4", "unicorn"
PROMPTS = (
    "turn the kitchen lamp down to 20 percent",
    "wake me up at half past six on monday",
    "it is too cold in the office",
)
TASKS = ("seen", "held-out", "typo")
SAMPLE = 30  # examples of each task
POSITION = 31

NEXT = f"""What to try next
  edge run {MODEL} --on {BOARD}                     talk to it, line after line
  edge run {MODEL} --on host                           the same file in LiteRT, on this machine
  edge eval {MODEL} --on host --task typo              a whole test set
  edge inspect {MODEL} --board {BOARD}              what is inside, and its memory plan
  edge convert stories260K.bin --tokenizer tok512.bin -o stories.tflite     a llama2.c checkpoint of yours
With real hardware
  Nothing has run on silicon yet: yours may be the first (`edge boards`, docs/boards.md).
  edge build {MODEL} --board pico -o image             firmware for a Raspberry Pi Pico
  edge flash image                                    into its flash, verified by the firmware that then runs
  edge run {MODEL} --on pico@auto                      talk to it; edge bench gives seconds, by its own cycle counter
  edge selftest --on pico@auto                        one record that tells whether the board does what it should
"""


@dataclass(frozen=True)
class Stage:
    """Where the demo writes, and how it speaks."""

    folder: Path
    show: Callable[[str], None]

    def step(self, name: str, what: str, *commands: str) -> None:
        """Announces a step, and the commands that do the same."""
        self.show(f"\n{name}: {what}\n" + "".join(f"  $ edge {command}\n" for command in commands))

    def say(self, text: str) -> None:
        """Shows what came of it, indented."""
        self.show("".join(f"    {line}\n" for line in text.splitlines()))


def demo(show: Callable[[str], None], output: Path | None) -> None:
    """Walks the road and shows every step; files stay in output where that is given."""
    started = time.monotonic()
    show(f"The road of `{MODEL}`, a language model of this project, to `{BOARD}`, an EMULATED Cortex-M4F.\n")
    with ExitStack() as stack:
        if output is None:
            output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-demo-")))
        output.mkdir(parents=True, exist_ok=True)
        stage = Stage(output, show)
        model = _convert(stage)
        image = _build(stage, model)
        with _open(model, image, counting=False) as running:
            _run(stage, running)
            written = _eval(stage, running)
        with _open(model, image, counting=True) as running:
            written = [_bench(stage, running), *written]
        _report(stage, written)
    show(f"\n{NEXT}\nThe demo took {time.monotonic() - started:.0f} seconds.\n")


def _convert(stage: Stage) -> Path:
    source = zoo.folder() / MODEL / "checkpoint.npz"
    if not source.is_file():
        raise BadFile(f"{source} is missing", "install edge again, or clone the project")
    model = stage.folder / f"{MODEL}.tflite"
    stage.step(
        "Convert",
        "a trained checkpoint becomes one .tflite: int8 weights, tokenizer, card",
        f"convert {os.path.relpath(source) if source.is_relative_to(Path.cwd()) else source} -o {model.name}",
    )
    convert.save(convert.convert(checkpoints.load(source)), model)
    stage.say(inspect.title(inspect.summarize(model)))
    return model


def _build(stage: Stage, model: Path) -> build.Image:
    stage.step(
        "Build",
        "the .tflite becomes readable C, and that a firmware image",
        f"build {model.name} --board {BOARD} -o image",
    )
    board = boards.load(BOARD)
    image = build.build(compile_model(graph.read(model), board), board)
    build.save(image, stage.folder / "image")
    stage.say(inspect.image_text(image, Path("image")))
    return image


def _open(model: Path, image: build.Image, counting: bool) -> Running:
    link = open_image(image, EMULATOR, counting)
    return attach(f"{BOARD}@{EMULATOR}", graph.read(model), link, image, None)


def _run(stage: Stage, running: Running) -> None:
    stage.step("Run", "the board answers over its serial link", f'run {MODEL}.tflite "{PROMPTS[0]}" --on {BOARD}')
    for prompt in PROMPTS:
        stage.show(f"    {prompt}\n      -> ")
        generate.answer(running, prompt, None, generate.sampler(True, None, None, None), stage.show)


def _eval(stage: Stage, running: Running) -> list[Path]:
    stage.step(
        "Eval",
        f"three test sets that it was never trained on, the same {SAMPLE} of each every time",
        f"eval {MODEL}.tflite --on {BOARD} --task {TASKS[0]} --limit {SAMPLE} -o {TASKS[0]}.json",
    )
    written = []
    for task in TASKS:
        result = evaluate(
            running, text=None, task=task, limit=SAMPLE, greedy=True, temperature=None, top_p=None, seed=None
        )
        written.append(stage.folder / f"{task}.json")
        records.write(result, written[-1])
        stage.say(report.accuracy(result.accuracy))
    return written


def _bench(stage: Stage, running: Running) -> Path:
    stage.step(
        "Bench",
        "what a token costs, in instructions: an emulator has no seconds",
        f"bench {MODEL}.tflite --on {BOARD} --position {POSITION} -o bench.json",
    )
    result = bench(running, position=POSITION, repeats=1)
    path = stage.folder / "bench.json"
    records.write(result, path)
    stage.say(report.text([result]))
    return path


def _report(stage: Stage, written: list[Path]) -> None:
    stage.step("Report", "runs beside each other, from their records alone", "report *.json -o report.md")
    runs = report.report(written)
    records.write_text(stage.folder / "report.md", report.markdown(runs))
    stage.say(report.text(runs))
