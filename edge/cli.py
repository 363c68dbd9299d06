"""Every command, grouped as in help, and the one place where errors are caught.

A body reads its arguments, calls one function and prints. It imports what it needs itself, so that `edge --help`
answers at once. stdout has the result, stderr everything else. Exit codes: 0, 1 for an error that has a message, 2 for
wrong usage, 130 for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edge import __version__
from edge.options import (
    FILE,
    actions_option,
    boards_option,
    budget_options,
    calibrate_options,
    chat_options,
    context_option,
    has_folder,
    input_option,
    json_option,
    model_argument,
    model_output,
    on_option,
    options_of,
    picture_option,
    quantize_option,
    record_option,
    report_options,
    runtime_option,
    sampling_options,
    signature_option,
    tokens_option,
    toolchain_option,
    weights_option,
)
from edge.terminal import clean
from firmware_tools import toolchains
from firmware_tools.errors import UserError

if TYPE_CHECKING:
    from edge.measure.record import Record
    from edge.run.flash import Plan
    from edge.run.plain import PlainRunning
    from edge.run.target import Running
    from firmware_tools.graph import Graph

GROUPS = {
    "Make": ("convert", "train", "inspect", "build"),
    "Run": ("flash", "deploy", "run"),
    "Measure": ("bench", "eval"),
    "Decide": ("report",),
    "Setup": ("demo", "models", "boards", "ports", "selftest", "doctor"),
}
INTERRUPTED = 130


class Commands(click.Group):
    """The commands in the order of GROUPS, and what becomes of their errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in GROUPS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Runs a command line and exits; only a fault of this program itself comes with a traceback."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another, and goes on
        sys.exit(self._exit_code(args, prog_name or "edge"))

    def _exit_code(self, args: Sequence[str] | None, prog_name: str) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except UserError as error:
            return _fail(error.message, error.hint)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("edge: interrupted", err=True)
            return INTERRUPTED
        except OSError as error:  # of a file; a reader of ours that went away is caught by click, and ends us quietly
            if error.filename is None:
                raise
            return _fail(f"{error.filename}: {error.strerror}", "")


def _fail(message: str, hint: str) -> int:
    click.echo(f"edge: {clean(message)}", err=True)
    if hint:
        click.echo(f"hint: {clean(hint)}", err=True)
    return 1


def show(text: str) -> None:
    """Prints text as it comes, without control characters."""
    click.echo(clean(text), nl=False)


def present(as_json: bool, data: Any, text: str) -> None:
    """Prints a result, as JSON (ASCII, so that no string in it does harm) or as text."""
    show(json.dumps(data, indent=1, allow_nan=False) + "\n" if as_json else text)


def present_model(model: Path, as_json: bool, known: tuple[Graph, int] | None = None) -> None:
    """Says what has been written; only as JSON on which boards it fits. known: what is in it, and its parameters."""
    from edge.make import inspect
    from edge.make.quantize import mixed

    summary = inspect.summarize(model) if as_json or known is None else inspect.stored(model, *known)
    details = mixed.text(summary.card["mixed"]) if summary.card.get("quantization") == "mixed" else ""
    present(as_json, inspect.as_json(summary), f"{model}: {inspect.title(summary)}\n{details}")


def present_losses(model: Path, picture: Path | None, as_json: bool, *what: Any) -> None:
    """Says what has been written, and what was lost in it."""
    from edge.decide import losses
    from edge.make import inspect
    from edge.make.losses import losses as measure

    summary, found = inspect.summarize(model), measure(*what)
    draw(picture, lambda: losses.svg(found, f"What {summary.name} loses by quantizing its weights"))
    data = {**inspect.as_json(summary), "losses": losses.as_json(found)}
    present(as_json, data, f"{model}: {inspect.title(summary)}\n\n{losses.text(found)}")


def present_record(record: Record, output: Path | None, as_json: bool) -> None:
    """Writes a record where that is asked for, and prints it; an invalid one is an error, after that."""
    from edge.decide import profile, report
    from edge.measure import record as records
    from edge.measure.circumstances import ADVICE

    if output:
        records.write(record, output)
    details = "" if record.profile is None else "\n" + profile.text(record.profile)
    present(as_json, records.to_json(record), report.text([record]) + details)
    if record.invalid:
        raise UserError(
            f"the run is invalid: {'; '.join(reason.sentence for reason in record.invalid)}",
            f"{ADVICE[record.invalid[0].code]} (docs/pi.md)",
        )


def present_comparison(models: Sequence[str], runs: Sequence[Record], output: Path | None, as_json: bool) -> None:
    """Writes what several models were found to be where that is asked for, and prints it."""
    from edge.decide import comparison
    from edge.measure import record

    found = comparison.Comparison(tuple(models), tuple(runs))
    if output:
        record.write_text(output, json.dumps(comparison.as_json(found), indent=1) + "\n")
    present(as_json, comparison.as_json(found), comparison.text(found))


def draw(picture: Path | None, svg: Callable[[], str]) -> None:
    """Writes a picture where one is asked for."""
    from edge.measure import record

    if picture:
        record.write_text(picture, svg())


def own_boards(folder: Path | None) -> None:
    """Until this command line ends, boards of the user's own are in folder, where one is given."""
    from firmware_tools.boards import FOLDER

    if folder is None:
        return
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(folder)

    def restore() -> None:
        os.environ.pop(FOLDER, None)
        if before is not None:
            os.environ[FOLDER] = before

    click.get_current_context().find_root().call_on_close(restore)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edge")
@boards_option
def main(folder: Path | None) -> None:
    """Small language models on microcontrollers and Raspberry Pis, with what they cost there.

    MODEL is a .tflite or a name that `edge models` lists.
    """
    own_boards(folder)


# ------------------------------------------------------------------------------------------------------------ Make


@main.command()
@click.argument("source", type=FILE, metavar="SOURCE")
@model_output
@quantize_option
@context_option
@click.option("--tokenizer", type=FILE, metavar="FILE", help="For formats that keep it in a second file.")
@calibrate_options
@budget_options
@runtime_option
@report_options
@signature_option
@json_option
def convert(source: Path, output: Path, picture: Path | None, as_json: bool, **what: Any) -> None:
    """Turn a checkpoint, or a model of Keras or another source, into a .tflite."""
    from edge.make import checkpoints

    if (picture or what["beside"]) and not what["report"]:
        raise click.UsageError("--picture and --beside go with --report")
    if [what["max_kl"], what["max_size"]].count(None) < (1 if what["quantize"] == "mixed" else 2):
        raise click.UsageError("one of --max-kl and --max-size goes with --quantize mixed")
    plain = checkpoints.is_plain(source)
    what = options_of(plain, source.name, what)
    if plain:
        _convert_plain(source, output, as_json, **what)
    else:
        _convert_text(source, output, picture, as_json, **what)


def _convert_plain(
    source: Path, output: Path, as_json: bool, quantize: str, calibrate: tuple[str, ...], signature: str | None
) -> None:
    from edge.make import checkpoints, convert

    convert.save(checkpoints.convert_plain(source, checkpoints.Request(quantize, calibrate, signature)), output)
    present_model(output, as_json)


def _convert_text(
    source: Path,
    output: Path,
    picture: Path | None,
    as_json: bool,
    quantize: str,
    context: int | None,
    tokenizer: Path | None,
    calibrate: tuple[str, ...],
    seed: int | None,
    report: bool,
    beside: tuple[str, ...],
    max_kl: float | None,
    max_size: float | None,
    **form: Any,
) -> None:
    from edge.make import checkpoints, convert
    from edge.make.calibrate import calibration
    from edge.make.quantize import layerwise
    from edge.make.quantize.mixed import Budget
    from edge.terminal import stages
    from firmware_tools import graph

    if len(calibrate) > 1:
        raise click.UsageError("--calibrate is given once for a language model")
    checkpoint = checkpoints.load(source, tokenizer)
    tokens = layerwise.tokens(checkpoint.architecture)
    texts = calibration(checkpoint, calibrate[0], seed or 0, tokens) if calibrate else None
    form |= {"calibration": texts, "budget": Budget(max_kl, max_size)}
    others = _schemes_beside(quantize, beside) if report else []
    with stages() as progress:
        files = {quantize: convert.convert_to(output, checkpoint, quantize, context, progress=progress, **form)}
        for scheme in others:
            # `all` leaves out what the model cannot have: blocks that none of its rows hold
            with contextlib.suppress(UserError) if "all" in beside else contextlib.nullcontext():
                files[scheme] = graph.read(convert.convert(checkpoint, scheme, context, progress=progress, **form))
    for note in checkpoint.notes:
        click.echo(f"note: {clean(note)}", err=True)
    if not report:
        return present_model(output, as_json, (files[quantize], convert.parameters(checkpoint)))
    present_losses(output, picture, as_json, checkpoint, files, texts or calibration(checkpoint, seed=seed or 0))


def _schemes_beside(quantize: str, beside: Sequence[str]) -> list[str]:
    """Schemes that a report has beside the file's own; `all`: every one that any checkpoint can have and that
    loses anything which can be looked into.
    """
    from edge.make.losses import RESCALED, refuse_rescaled
    from edge.make.quantize import MIXED, SCHEMES

    refuse_rescaled((quantize, *beside))
    every = [name for name in SCHEMES if name not in ("float32", MIXED, *RESCALED)] if "all" in beside else beside
    return [scheme for scheme in dict.fromkeys(every) if scheme != quantize]


@main.command()
@click.argument("recipe", type=FILE, metavar="RECIPE")
@model_output
@quantize_option
@context_option
@click.option("--checkpoint", type=FILE, metavar="FILE.npz", callback=has_folder, help="Keep the float weights, too.")
@json_option
def train(
    recipe: Path, output: Path, quantize: str, context: int | None, checkpoint: Path | None, as_json: bool
) -> None:
    """Train a model by its recipe, then convert it (extra `train`)."""
    from edge.make import convert
    from edge.make.learn import train
    from edge.terminal import meter

    with meter("training") as progress:
        trained = train.train(recipe, checkpoint, progress)
    model = convert.convert_to(output, trained, quantize, context)
    present_model(output, as_json, (model, convert.parameters(trained)))


@main.command()
@model_argument
@click.option("--board", metavar="BOARD", help="Show the memory plan for this board.")
@picture_option
@context_option
@signature_option
@json_option
def inspect(
    model: str, board: str | None, picture: Path | None, context: int | None, signature: str | None, as_json: bool
) -> None:
    """Show a model's ops, shapes, sizes and memory plan, and which boards it fits."""
    from edge import zoo
    from edge.make import inspect, memory_plan

    if picture and not board:
        raise click.UsageError("--picture goes with --board")
    summary = inspect.summarize(zoo.find(model), board, context, signature)
    draw(picture if summary.arena else None, lambda: memory_plan.svg(summary.arena, f"{summary.name} on {board}"))
    present(as_json, inspect.as_json(summary), inspect.text(summary))


@main.command()
@model_argument
@click.option("--board", metavar="BOARD", help="A firmware image for one that `edge boards` lists.")
@click.option("--library", is_flag=True, help="Instead of an image, a folder of C for one's own firmware.")
@click.option("--core", metavar="CORE", help="With --library: generic (the default), cortex-m4 or another core.")
@click.option("--prefix", metavar="NAME", help="With --library: what its names begin with (the default: model).")
@click.option("-o", "output", required=True, type=FILE, metavar="DIR", help="Folder for what is made.")
@context_option
@signature_option
@toolchain_option
@weights_option
@actions_option
@json_option
def build(
    model: str,
    board: str | None,
    library: bool,
    core: str | None,
    prefix: str | None,
    toolchain: str | None,
    weights: str | None,
    actions: Path | None,
    **rest: Any,
) -> None:
    """Compile a model to a firmware image, or to C for one's own firmware."""
    if library == (board is not None):
        raise click.UsageError("give one of --board and --library")
    if not library and (core or prefix):
        raise click.UsageError("--core and --prefix go with --library")
    if library and (toolchain or weights or actions):
        raise click.UsageError("--toolchain, --weights and --actions go with --board")
    if board is not None:
        _build_image(model, board, toolchain or toolchains.DEFAULT, weights, actions, **rest)
    else:
        _build_library(model, core or "generic", prefix or "model", **rest)


def _build_image(
    model: str,
    board: str,
    toolchain: str,
    weights: str | None,
    actions: Path | None,
    output: Path,
    context: int | None,
    signature: str | None,
    as_json: bool,
) -> None:
    from edge import zoo
    from edge.make import inspect
    from firmware_tools import boards, build, compile, graph
    from firmware_tools.actions import add

    facts, read = boards.load(board), graph.read(zoo.find(model))
    sources = compile.compile_model(read, facts, context, signature)
    if actions:
        sources = add(sources, actions, read, facts)
    image = build.build(sources, facts, toolchain=toolchain, weights=weights)
    build.save(image, output)
    present(as_json, inspect.image_json(image), inspect.image_text(image, output))


def _build_library(
    model: str, core: str, prefix: str, output: Path, context: int | None, signature: str | None, as_json: bool
) -> None:
    from edge import zoo
    from firmware_tools import graph, library

    files = library.build_library(graph.read(zoo.find(model)), core, prefix, context, signature)
    library.save(files, output)
    text = f"{output}: {len(files)} files for {core}; src/{prefix}.h explains its functions\n"
    present(as_json, {"core": core, "prefix": prefix, "files": sorted(files)}, text)


# ------------------------------------------------------------------------------------------------------------- Run


@main.command("flash")
@click.argument("folder", type=FILE, metavar="DIR")
@click.option("--to", metavar="BOARD[@PORT]", help="Which one: BOARD@PORT, or BOARD@auto for the one plugged in.")
@click.option("--by", metavar="FLASHER", help="How to flash; by default as the board's facts say.")
@click.option(
    "--repeat", type=click.IntRange(1), metavar="N", help="Flash it N times, and say how often that went well."
)
@click.option(
    "-o", "output", type=FILE, metavar="SOAK.json", callback=has_folder, help="With --repeat: write a record."
)
@json_option
def flash_image(
    folder: Path, to: str | None, by: str | None, repeat: int | None, output: Path | None, as_json: bool
) -> int:
    """Write an image to a board's flash, and have the firmware that runs then verify it."""
    from edge.run import flash

    if output and not repeat:
        raise click.UsageError("-o goes with --repeat")
    what = flash.plan(folder, to, by)
    return _soak(what, repeat, output, as_json) if repeat else _flash(what, as_json)


def _flash(what: Plan, as_json: bool) -> int:
    """A flash that Ctrl-C ended says in which state the board is before it ends like every other command."""
    from edge.run import flash
    from edge.terminal import steps
    from firmware_tools.flashers import FlashError

    try:
        with steps() as progress:
            done = flash.flash(what, progress)
    except FlashError as error:
        if error.interrupted:
            _fail(error.message, error.hint)
            return INTERRUPTED
        raise
    present(as_json, flash.as_json(done), flash.text(done))
    return 0


def _soak(what: Plan, repeat: int, output: Path | None, as_json: bool) -> int:
    from edge.measure import record
    from edge.run import soak
    from edge.terminal import steps

    with steps() as progress:
        found = soak.soak(what, repeat, progress)
    data = soak.as_json(found)
    if output:
        record.write_text(output, json.dumps(data, indent=1) + "\n")
    present(as_json, data, soak.text(found))
    return INTERRUPTED if found.interrupted else int(found.failed)


@main.command()
@click.argument("model", metavar="MODEL", required=False)
@click.option("--to", "place", required=True, metavar="ssh:[user@]host[:port]", help="The Raspberry Pi.")
@click.option("--remove", is_flag=True, help="Take MODEL away again, or everything of edge without MODEL.")
@json_option
def deploy(model: str | None, place: str, remove: bool, as_json: bool) -> None:
    """Bring a model, and what it needs to run, to a Raspberry Pi over ssh."""
    if remove:
        _remove(model, place, as_json)
    elif model is not None:
        _deploy(model, place, as_json)
    else:
        raise click.UsageError("give a MODEL to deploy, or --remove")


def _deploy(model: str, place: str, as_json: bool) -> None:
    from edge import zoo
    from edge.run import ssh
    from edge.run.pi import deploy
    from edge.terminal import stages
    from firmware_tools import graph

    destination, path = ssh.parse(place), zoo.find(model)
    graph.read(path)  # what is no model is refused before anybody logs in
    with stages() as progress, deploy.visit(destination) as there:
        done = deploy.deploy(path, there, str(destination), progress, model)
    present(as_json, dataclasses.asdict(done), deploy.deployed_text(done))


def _remove(model: str | None, place: str, as_json: bool) -> None:
    from edge.run import ssh
    from edge.run.pi import deploy
    from edge.terminal import waiting

    destination = ssh.parse(place)
    with waiting(f"asking {destination}"), deploy.visit(destination) as there:
        removed = deploy.remove(model, there, str(destination))
    present(as_json, dataclasses.asdict(removed), deploy.removed_text(removed))


@main.command()
@model_argument
@click.argument("prompt", required=False)
@on_option
@tokens_option
@sampling_options
@chat_options
@context_option
@input_option
@click.option("--labels", type=FILE, metavar="FILE", help="With --input: names of the classes, one a line.")
@signature_option
@toolchain_option
@actions_option
@json_option
def run(model: str, target: str, as_json: bool, **what: Any) -> None:
    """Answer PROMPT, chat without it (Ctrl-D ends), or run any other model on --input."""
    from edge import zoo

    path = zoo.find(model)
    plain, what = _of_kind(path, what)
    (_run_plain if plain else _run_text)(path, target, as_json, **what)


def _run_plain(
    path: Path, target: str, as_json: bool, inputs: tuple[str, ...], labels: Path | None, **where: Any
) -> None:
    from edge.run import infer
    from edge.run.plain import open_plain

    with open_plain(target, path, counting=as_json, **where) as running:
        say_notes(running)
        result = infer.infer(running, inputs, labels)
    present(as_json, infer.as_json(result), infer.text(result))


def _run_text(
    path: Path,
    target: str,
    as_json: bool,
    prompt: str | None,
    tokens: int | None,
    context: int | None,
    toolchain: str | None,
    actions: Path | None,
    raw: bool,
    system: str | None,
    **sampling: Any,
) -> None:
    from edge.run import conversation, generate
    from edge.run.target import open_target

    if as_json and prompt is None:
        raise click.UsageError("--json goes with a PROMPT")
    if raw and system is not None:
        raise click.UsageError("--system goes with a template, and --raw is without one")
    sampler, shown = generate.sampler(**sampling), None if as_json else show
    with open_target(target, path, context=context, toolchain=toolchain, actions=actions) as running:
        say_notes(running)
        if why := running.info.raw.get("weight_cache_none_because"):
            click.echo(f"note: packed weights are not kept: {clean(str(why))}", err=True)
        if prompt is None:
            return conversation.talk(running, tokens, sampler, show, ask, raw, system, welcome=sys.stdin.isatty())
        answer = generate.answer(running, prompt, tokens, sampler, shown, raw=raw, system=system, act=True)
    present(as_json, dataclasses.asdict(answer), "")  # the text has been shown as it came


def say_notes(running: Running | PlainRunning) -> None:
    """What should be known of the target before its answer."""
    for note in running.notes:
        click.echo(f"note: {clean(note)}", err=True)


def _of_kind(path: Path, what: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether the model is no language model of edge, and those of the options that its kind takes."""
    from edge.run.plain import is_plain

    plain = is_plain(path)
    return plain, options_of(plain, path.name, what)


def ask() -> str:
    """A line from the user, with a sign where somebody sees it; EOFError at the end."""
    if sys.stdin.isatty():
        show("> ")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


# --------------------------------------------------------------------------------------------------------- Measure


@main.command()
@model_argument
@on_option
@click.option("--position", type=click.IntRange(0), metavar="P", help="Decode at position P: P+1 positions attended.")
@click.option("--prompt", metavar="TEXT", help="Read this prompt, and decode after it.")
@tokens_option
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, metavar="R", help="How often.")
@click.option("--profile", "profiled", is_flag=True, help="Say where a token's instructions go (emulated boards).")
@picture_option
@context_option
@input_option
@signature_option
@toolchain_option
@record_option
@json_option
def bench(model: str, target: str, output: Path | None, as_json: bool, picture: Path | None, **what: Any) -> None:
    """Measure what a prompt and a token cost, or an inference of any other model."""
    from edge import zoo
    from edge.decide import profile

    path = zoo.find(model)
    if picture and not what["profiled"]:
        raise click.UsageError("--picture goes with --profile")
    plain, what = _of_kind(path, what)
    result = (_bench_plain if plain else _bench_text)(path, target, **what)
    if parts := result.profile:
        draw(picture, lambda: profile.svg(parts))
    present_record(result, output, as_json)


def _bench_plain(
    path: Path, target: str, repeats: int, inputs: tuple[str, ...], profiled: bool, **where: Any
) -> Record:
    from edge.measure.bench_plain import bench_plain
    from edge.run.plain import open_plain

    with open_plain(target, path, counting=True, **where) as running:
        say_notes(running)
        return bench_plain(running, inputs, repeats, profiled, where["signature"])


def _bench_text(
    path: Path, target: str, context: int | None, toolchain: str | None, profiled: bool, **what: Any
) -> Record:
    from edge.measure import profile
    from edge.measure.bench import bench
    from edge.run.target import open_target

    if what["position"] is not None and (what["prompt"] is not None or what["tokens"] is not None):
        raise click.UsageError("--position measures one token: it goes with neither --prompt nor --tokens")
    with open_target(target, path, context=context, counting=True, toolchain=toolchain) as running:
        say_notes(running)
        result = bench(running, **what)
        return dataclasses.replace(result, profile=profile.profile_of(running, result) if profiled else None)


@main.command("eval")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@on_option
@click.option("--text", type=FILE, metavar="FILE", help="Perplexity and bits per byte of a text.")
@click.option("--task", metavar="TASK", help="Exact match of a .jsonl, or of a zoo model's task by name.")
@click.option(
    "--reference",
    metavar="MODEL",
    help="With --text: KL and top-1 against this model on the host. With --input: how often and how far outputs differ "
    "from its; `host` is the same model in LiteRT's reference kernels.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N tokens, or N of the examples.")
@tokens_option
@sampling_options
@context_option
@input_option
@click.option("--labels", type=FILE, metavar="FILE", help="With --input: the number of each sample's class.")
@signature_option
@toolchain_option
@record_option
@json_option
def evaluate(
    models: tuple[str, ...], target: str, output: Path | None, as_json: bool, reference: str | None, **what: Any
) -> None:
    """Measure how good the answers are; of several models, what tells each from the first."""
    from edge import zoo

    paths = [zoo.find(model) for model in models]
    kinds = [_of_kind(path, what) for path in paths]
    if len({plain for plain, _ in kinds}) > 1:
        raise click.UsageError("a language model and another model have nothing to compare")
    plain, what = kinds[0]
    runs = (_eval_plain if plain else _eval_text)(paths, target, reference, **what)
    if len(runs) == 1:
        present_record(runs[0], output, as_json)
    else:
        present_comparison(models, runs, output, as_json)


def _eval_plain(
    paths: Sequence[Path], target: str, reference: str | None, inputs: tuple[str, ...], labels: Path | None, **what: Any
) -> list[Record]:
    from edge import zoo
    from edge.measure.evaluate_each import evaluate_each_plain

    if not inputs or labels is None and reference is None:
        raise click.UsageError("give --input, and --labels or --reference or both")
    yardstick = str(zoo.find(reference)) if reference not in (None, "host") else reference
    return evaluate_each_plain(paths, target, yardstick, inputs=inputs, labels=labels, **what)


def _eval_text(paths: Sequence[Path], target: str, reference: str | None, **what: Any) -> list[Record]:
    from edge import zoo
    from edge.measure.evaluate_each import evaluate_each

    _check_eval(reference, **what)
    return evaluate_each(paths, target, zoo.find(reference) if reference else None, **what)


def _check_eval(reference: str | None, text: Path | None, task: str | None, tokens: int | None, **rest: Any) -> None:
    if (text is None) == (task is None):
        raise click.UsageError("give one of --text and --task")
    if reference and text is None:
        raise click.UsageError("--reference goes with --text")
    sampled = rest["greedy"] or any(rest[name] is not None for name in ("temperature", "top_p", "seed"))
    if text is not None and (tokens is not None or sampled):
        raise click.UsageError("--text is read, not answered: --tokens and sampling go with --task")


# ---------------------------------------------------------------------------------------------------------- Decide


@main.command()
@click.argument("runs", nargs=-1, required=True, type=FILE, metavar="RUN.json...")
@click.option("-o", "output", type=FILE, metavar="REPORT.md", callback=has_folder, help="Write it as Markdown as well.")
@json_option
def report(runs: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Put runs beside each other, from their records alone."""
    from edge.decide import report
    from edge.measure import record

    found = report.report(runs)
    if output:
        record.write_text(output, report.markdown(found))
    present(as_json, report.as_json(found), report.text(found))


# ----------------------------------------------------------------------------------------------------------- Setup


@main.command()
@click.option("--output", type=FILE, metavar="DIR", help="Keep what is made in this folder.")
def demo(output: Path | None) -> None:
    """Show the whole road in seconds, offline: the shipped model on a virtual board."""
    from edge.demo import demo

    demo(show, output)


@main.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that come along."""
    from edge.make import catalogue

    rows = catalogue.models()
    present(as_json, rows, catalogue.models_text(rows))


@main.command()
@click.argument("name", required=False, metavar="[BOARD]")
@click.option("--like", metavar="BOARD", help="With --new: the board whose facts it begins with.")
@click.option(
    "--new", metavar="NAME", help="Begin a board of your own: write its two files into the folder of --boards."
)
@boards_option
@json_option
def boards(name: str | None, like: str | None, new: str | None, folder: Path | None, as_json: bool) -> None:
    """List the boards, and which of them have run on silicon; or all facts of one."""
    from edge.make import board_facts, catalogue
    from firmware_tools import boards as known

    if (like is None) != (new is None) or (new and name):
        raise click.UsageError("--like BOARD and --new NAME go together, and without another BOARD")
    if new and like:
        return _new_board(like, new, folder, as_json)
    own_boards(folder)
    if name:
        board = known.load(name)
        return present(as_json, board_facts.as_json(board), board_facts.text(board))
    rows = catalogue.boards()
    present(as_json, rows, catalogue.boards_text(rows))


def _new_board(like: str, name: str, folder: Path | None, as_json: bool) -> None:
    from edge.make import new_board
    from firmware_tools import boards as known

    place = folder or known.own_folder()
    if place is None:
        raise click.UsageError(f"where to? --boards DIR, or the environment variable {known.FOLDER}")
    paths = new_board.write(like, name, place)
    text = "".join(f"{path}\n" for path in paths)
    text += f"edit them, then: edge --boards {place} build MODEL --board {name} -o DIR\n"
    present(as_json, {"name": name, "files": [str(path) for path in paths]}, text)


@main.command()
@json_option
def ports(as_json: bool) -> None:
    """List what is plugged in, which board it is likely to be, and why."""
    from edge.run import find
    from firmware_tools.ports import plugged

    devices = plugged()
    present(as_json, find.rows(devices), find.text(devices))


@main.command()
@click.option("--on", "place", required=True, metavar="BOARD@PORT", help="Or BOARD@auto, or BOARD@emulator.")
@click.option(
    "--image", type=FILE, metavar="DIR", help="What was flashed: an image of `intent` (the default: build it)."
)
@toolchain_option
@click.option("-o", "output", type=FILE, metavar="FILE", callback=has_folder, help="Instead of selftest-BOARD.json.")
@json_option
def selftest(place: str, image: Path | None, toolchain: str | None, output: Path | None, as_json: bool) -> int:
    """Test a board that holds the shipped model, and write one record to attach to an issue."""
    from edge.measure import selftest
    from edge.terminal import stages

    with stages() as progress:
        record = selftest.run(place, image, toolchain, progress)
    path = output or Path(f"selftest-{record.board}.json")
    selftest.write(record, path)
    present(as_json, selftest.to_json(record), selftest.text(record, path))
    return int(not record.passed)


@main.command()
@click.argument("target", required=False, metavar="[ssh:[user@]host]")
@json_option
def doctor(target: str | None, as_json: bool) -> int:
    """Say what this machine, or a Raspberry Pi, lacks, and the lines that fix it."""
    from edge.run import finding
    from edge.run.pi import doctor

    findings = doctor.examine_other(target) if target else doctor.examine_here()
    present(as_json, [dataclasses.asdict(found) for found in findings], finding.text(findings))
    return int(any(found.state == "missing" for found in findings))
