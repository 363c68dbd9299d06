"""The options that mean the same in every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from firmware_tools import toolchains
from firmware_tools.errors import UserError

# names of parameters that only one kind of model takes
OF_DECODERS = frozenset(
    (
        "prompt",
        "tokens",
        "greedy",
        "temperature",
        "top_p",
        "seed",
        "context",
        "text",
        "task",
        "position",
        "tokenizer",
        "runtime",
        "report",
        "beside",
        "max_kl",
        "max_size",
        "raw",
        "system",
        "actions",
    )
)
OF_PLAIN = frozenset(("inputs", "labels", "signature"))

Function = TypeVar("Function", bound=Callable[..., Any])


def options(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several options as one decorator, in help in the order given."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def has_folder(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """Refuses a place that cannot be written before anything is measured, not after."""
    if value is not None and not value.parent.is_dir():
        raise UserError(f"cannot write {value}: there is no folder {value.parent}", "make it, or choose another place")
    return value


FILE = click.Path(path_type=Path)
model_argument = click.argument("model", metavar="MODEL")
model_output = click.option(
    "-o", "output", required=True, type=FILE, metavar="M.tflite", callback=has_folder, help="Where to write."
)
quantize_option = click.option(
    "--quantize",
    type=click.Choice(
        ["int8", "int8-static", "int8-static+int16", "int16x8", "float16", "float32"]
        + ["int4", "int4-32", "int4-64", "int4-128", "int4-grid", "mixed"]
    ),
    default="int8",
    show_default=True,
    help="Type of the weights.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["2.14"]),
    help="Write a form that tflite-runtime 2.14 (32-bit Raspberry Pis) computes rightly, too.",
)
seed_option = click.option("--seed", type=click.IntRange(0, 2**64 - 1), metavar="S", help="Sample with this seed.")
calibrate_options = options(
    click.option(
        "--calibrate",
        multiple=True,
        metavar="samples|FILE",
        help="What activations are measured on: the model's own samples, a text, or a task (.jsonl); of other models "
        "an .npy or .csv of samples, NAME=FILE for each of several inputs.",
    ),
    seed_option,
)
budget_options = options(
    click.option(
        "--max-kl",
        type=click.FloatRange(0, min_open=True),
        metavar="NATS",
        help="With mixed: as small as a KL divergence of so much a token allows (the default: 0.05).",
    ),
    click.option(
        "--max-size",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="SHARE",
        help="With mixed, instead: as good as this share of int8's weight bytes allows.",
    ),
)
on_option = click.option(
    "--on",
    "target",
    default="host",
    show_default=True,
    metavar="TARGET",
    help="host, BOARD, BOARD@emulator, BOARD@auto (that plugged in), BOARD@PORT (a serial port or any pyserial URL), "
    "ssh:[user@]host or pi@PORT.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
record_option = click.option(
    "-o", "output", type=FILE, metavar="RUN.json", callback=has_folder, help="Write the record."
)
picture_option = click.option(
    "--picture", type=FILE, metavar="FILE.svg", callback=has_folder, help="Draw it as well, as SVG."
)
report_options = options(
    click.option("--report", is_flag=True, help="Say what was lost, matrix by matrix."),
    click.option("--beside", multiple=True, metavar="SCHEME", help="With --report: of this scheme as well, or of all."),
    picture_option,
)
context_option = click.option("--context", type=click.IntRange(2), metavar="N", help="Positions of the KV cache.")
toolchain_option = click.option(
    "--toolchain",
    type=click.Choice(toolchains.names()),
    help=f"What compiles an image: {toolchains.DEFAULT} (the default, from pip) or one of your own.",
)
weights_option = click.option(
    "--weights",
    type=click.Choice(("flash", "ram")),
    help="Where an image has its weights; the default is what the board reads faster and has room in.",
)
actions_option = click.option(
    "--actions",
    type=FILE,
    metavar="FILE",
    help="What the board does about answers: an actions.toml, or a .c with on_answer (docs/boards.md).",
)
boards_option = click.option(
    "--boards",
    "folder",
    type=FILE,
    metavar="DIR",
    help="Boards of your own are in DIR (the default: that of the environment variable EDGE_BOARDS).",
)
tokens_option = click.option("--tokens", type=click.IntRange(1), metavar="N", help="So many new tokens, at most.")
sampling_options = options(
    click.option("--greedy", is_flag=True, help="Take the likeliest token, as is done without the options below."),
    click.option("--temperature", type=click.FloatRange(0), metavar="T", help="Sample, logits divided by T."),
    click.option(
        "--top-p", type=click.FloatRange(0, 1, min_open=True), metavar="P", help="Sample among the likeliest."
    ),
    seed_option,
)
chat_options = options(
    click.option("--system", metavar="TEXT", help="Of a chat model: what it is told before the conversation."),
    click.option("--raw", is_flag=True, help="Go on from PROMPT as it is, without the model's template."),
)
input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="X",
    help="An .npy, a .csv or numbers; NAME=X for each of several; a text or a .txt where the model takes texts.",
)
signature_option = click.option("--signature", metavar="NAME", help="Of a .tflite with several signatures: this one.")


def options_of(plain: bool, model: str, what: dict[str, Any]) -> dict[str, Any]:
    """what without the parameters of the other kind of model; wrong usage where one of those was given."""
    strange = OF_DECODERS if plain else OF_PLAIN
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name in strange:
            name = parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[0]
            takes = ", it takes --input" if any(other.name == "inputs" for other in context.command.params) else ""
            kind = f"no language model of edge{takes}" if plain else "a language model"
            raise click.UsageError(f"{name} does not go with {model}: it is {kind}")
    return {name: value for name, value in what.items() if name not in strange}
