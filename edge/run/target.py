"""TARGET -> Link: where a model runs, behind the same frames everywhere.

    host              LiteRT in a child process
    BOARD@PORT        silicon, or anything that speaks frames: `pico@COM5`, `pico@/dev/ttyACM0`, any pyserial URL
    BOARD@auto        the one board of this kind that is plugged in
    BOARD@emulator    the board's default emulator; or one by name, `BOARD@qemu`
    BOARD             its default emulator, where pip brings that and no such board is plugged in
    ssh:[user@]host   a computer that models were deployed to, such as a Raspberry Pi; `ssh:user@host:port` too
    pi@PORT           the same over its serial console or USB gadget port

For an emulator the model is compiled and built on the way. Whatever answers must hold the very model that was named.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edge.run import find, ssh
from edge.run.ssh import Destination
from edge.tokenizer import Tokenizer, from_card
from firmware_tools import boards, build, emulators, graph, ports, toolchains
from firmware_tools.boards import Board
from firmware_tools.errors import BadFile, LinkError, MissingTool, UserError
from firmware_tools.link import Clock, Info, Link, SerialTransport

LINE = "--on "
PI = "pi"  # whatever computer is at the other end of a port


@dataclass(frozen=True)
class Running:
    """A model that answers on a target; ends with its `with` block.

    target is what the text given to `--on` was resolved to, context the positions that may be used, image the firmware
    where it was built here.
    """

    target: str
    model: graph.Graph
    tokenizer: Tokenizer
    link: Link
    info: Info
    context: int
    image: build.Image | None = None

    @property
    def notes(self) -> list[str]:
        """What a user of this target should know, and may not expect."""
        return notes(self.target, self.info)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a text, as the model's card says."""
        return frozenset(self.model.card["stop_ids"])

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.link.close()


@dataclass(frozen=True)
class Place:
    """A TARGET, understood: host, an emulator of a board, a port where a board is said to be, or another computer.

    The last by ssh, or by a port and no board.
    """

    board: Board | None = None
    emulator: str | None = None
    port: str | None = None
    computer: Destination | None = None

    def __str__(self) -> str:
        if self.computer or (self.port and not self.board):
            return str(self.computer or f"{PI}@{self.port}")
        return f"{self.board.full_name}@{self.emulator or self.port}" if self.board else "host"


def parse(text: str) -> Place:
    """What a TARGET means; UserError says what to type instead."""
    if text == "host":
        return Place()
    if text.startswith(ssh.PREFIX):
        return Place(computer=ssh.parse(text))
    name, at, where = text.partition("@")
    if name == PI:
        return Place(port=_port_of_pi(text, where))
    board = boards.load(name)
    if where in emulators.names() and where not in board.emulators:
        raise UserError(f"{where} does not emulate {name}", _how_to_reach(board))
    if where in board.emulators:
        return Place(board, emulator=where)
    if not at or where == "emulator":
        return Place(board, emulator=_default_emulator(board, bare=not at))
    if where == "auto" and board.usb:
        return Place(board, port=find.the_one(board, LINE, with_port=True).port)
    if where in ("", "auto"):
        raise UserError(f"{text} does not name a port", _how_to_reach(board))
    return Place(board, port=find.port_at(board, where))


def _default_emulator(board: Board, bare: bool) -> str:
    """The board's first emulator; a bare board name means it only where pip brings it and none is plugged in."""
    if bare and board.usb and find.of_board(board):
        raise UserError(f"{board.name} alone does not say which: one is plugged in", _how_to_reach(board))
    if not board.emulators:
        raise UserError(f"{board.name} has no emulator", _how_to_reach(board))
    package = emulators.FROM_PIP.get(board.emulators[0])
    if bare and package is None:
        raise UserError(f"{board.name} alone does not say where it runs", _how_to_reach(board))
    if package and importlib.util.find_spec(package) is None:
        raise MissingTool(f"{board.name} runs in {package}, which is not installed", f"pip install {package}")
    return board.emulators[0]


def _how_to_reach(board: Board) -> str:
    """The line to type for a board: where it is plugged in, its emulators, and else the ports of this machine."""
    here = [device.port for device in find.of_board(board) if device.port]
    ways = [*here, *board.emulators] if here else [*board.emulators, *_ports()]
    return "--on " + " or --on ".join(f"{board.name}@{where}" for where in ways)


def _ports() -> list[str]:
    return [device.port for device in ports.plugged() if device.port] or ["PORT"]


def _port_of_pi(text: str, port: str) -> str:
    if not port or port == "auto" or port in emulators.names():
        ways = " or ".join(f"--on {PI}@{port}" for port in _ports())
        raise UserError(
            f"{text} does not name a port", f"over the network --on ssh:pi@raspberrypi.local; by a port {ways}"
        )
    return port


def open_target(
    text: str,
    model: Path,
    *,
    context: int | None = None,
    counting: bool = False,
    toolchain: str | None = None,
    actions: Path | None = None,
) -> Running:
    """Opens a TARGET with a .tflite model; counting: have an emulator count instructions, which takes it longer.

    For targets whose image is built here: toolchain, a stem of toolchains/, and actions, a file for actions.py.
    Raises BadFile, DoesNotFit, LinkError, MissingTool or another UserError, each with a hint.
    """
    place = parse(text)
    refuse_useless(toolchain, text, place)
    refuse_useless(actions, text, place, "--actions")
    facts = graph.read(model)
    _check(facts, model, context)
    link, image = connect(place, facts, model, counting, context=context, toolchain=toolchain, actions=actions)
    return attach(str(place), facts, link, image, context)


def refuse_useless(given: object, text: str, place: Place, option: str = "--toolchain") -> None:
    """UserError for an option about images where none is built."""
    if given and not place.emulator:
        raise UserError(
            f"{text} runs no image that is built here, so that {option} has no use",
            "leave it out, or run on an emulated board",
        )


def connect(
    place: Place,
    facts: graph.Graph,
    model: Path,
    counting: bool,
    *,
    context: int | None = None,
    signature: str | None = None,
    toolchain: str | None = None,
    kernels: str = "xnnpack",
    actions: Path | None = None,
) -> tuple[Link, build.Image | None]:
    """What answers at a place, not asked yet; and the image where it was built for that."""
    if place.board is None:
        return _open_computer(place, facts, model, kernels=kernels, context=context, signature=signature), None
    if place.emulator:
        from firmware_tools.actions import add as add_actions
        from firmware_tools.compile import compile_model

        sources = compile_model(facts, place.board, context, signature)
        if actions:
            sources = add_actions(sources, actions, facts, place.board)
        image = build.build(sources, place.board, toolchain=toolchain or toolchains.DEFAULT)
        return open_image(image, place.emulator, counting), image
    return _open_port(place.board, str(place.port)), None


def _open_computer(
    place: Place, facts: graph.Graph, model: Path, *, context: int | None, signature: str | None, kernels: str
) -> Link:
    """LiteRT, here or on another computer."""
    from edge.run import host, reach

    if not place.computer and not place.port:
        return host.open_host(model, kernels=kernels, context=context, signature=signature, read=facts)
    told = host.facts_of(model, facts, signature)
    asked = {"file_sha256": facts.file_sha256, "facts": told, "kernels": kernels, "context": context or 0}
    if place.computer:
        return reach.by_ssh(place.computer, model, asked)
    return reach.by_port(str(place.port), model, asked)


def _open_port(board: Board, port: str) -> Link:
    """A Link over a port; the ticks of an emulated board mean nothing there, since nobody counts its instructions."""
    clock = Clock("seconds", 1.0) if board.clock == "seconds" else Clock(board.clock, 1.0, counting=False)
    return Link(SerialTransport(port), clock)


def open_image(image: build.Image, emulator: str, counting: bool) -> Link:
    """The Link of an emulator that runs an image."""
    link: Link = emulators.load(emulator).open(image, counting)
    return link


def attach(target: str, model: graph.Graph, link: Link, image: build.Image | None, context: int | None) -> Running:
    """What answers on link, once it has said that it holds the model; the link is closed where it does not."""
    try:
        info = link.hello()
        expect_board(target, info)
        link.expect_model(model.sha256)
        limit = info.context if context is None else context
        if limit > info.context:
            raise LinkError(
                f"{target} holds {info.context} positions, fewer than --context {limit}",
                "build and flash it with that --context, or leave the option out",
            )
        return Running(target, model, from_card(model.tokenizer, model.card), link, info, limit, image)
    except BaseException:
        link.close()
        raise


def expect_board(target: str, info: Info) -> None:
    """What is plugged in must be the board that was named: its facts (clock, memory) go into records."""
    named, found = target.partition("@")[0].partition("+")[0], info.board.removeprefix("EMULATED ")
    if found != named and not on_computer(target):
        raise LinkError(f"{target} is not a {named}: it says that it is a {found}", _if_board(found))


def notes(target: str, info: Info) -> list[str]:
    """What was named is a board of silicon at a port, but it is none; or not all of a board started."""
    found = []
    name, _, where = target.partition("@")
    at_port = not on_computer(target) and where not in emulators.names()
    if at_port and info.emulated and boards.load(name).clock == "seconds":
        found.append(f"{target} says that it is EMULATED: it is no silicon, and no figure of it is one of silicon")
    if info.trouble:
        speed = "" if info.emulated else f"; it runs at {info.ticks_hz / 1e6:g} MHz"
        found.append(f"of {target} did not start: {info.trouble}{speed}")
    return found


def on_computer(target: str) -> bool:
    """Is it LiteRT that runs there, on this computer or another, and no board?"""
    return target == "host" or target.startswith((ssh.PREFIX, f"{PI}@"))


def _if_board(name: str) -> str:
    return f"--on {name}@PORT, if that is what you mean" if name in boards.names() else "is it the right port?"


def _check(model: graph.Graph, path: Path, context: int | None) -> None:
    if model.contract is None:
        raise BadFile(f"{path} is not a language model made by edge", "`edge convert` makes one from a checkpoint")
    made_for = model.card["architecture"]["context"]
    if context is not None and not 1 <= context <= made_for:
        raise UserError(
            f"--context {context} is not between 1 and the model's {made_for}",
            "convert it again with a larger --context",
        )
