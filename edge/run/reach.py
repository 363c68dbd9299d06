"""A model on another computer: the Link to the keeper there, which has opened it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.run import login, ssh
from edge.run.host import TICKS
from edge.run.pi import places, runtime_files
from firmware_tools.errors import LinkError
from firmware_tools.link import Link, PipeTransport, SerialTransport

ANSWER_S = 120.0  # of one request that computes
LOAD_S = 300.0  # a model from an SD card, whose weights are packed on the way
GREET_S = 6.0  # a keeper on a terminal answers at once
# runs behind the source of places.py, in python3 of the other computer
START_KEEPER = """
import sys
current = home() / RUNTIME / CURRENT
digest = current.read_text(encoding="ascii").strip() if current.is_file() else ""
root = home() / RUNTIME / digest
if not DIGEST.fullmatch(digest) or not root.is_dir():
    sys.exit(NOT_DEPLOYED + ": nothing of edge is installed there")
sys.path[:0] = [str(root), str(root / PACKAGES)]
try:
    from edge.run.agent.keeper import main
except ImportError as error:
    sys.exit(NOT_DEPLOYED + ": what is installed there is of another version of edge, or damaged: " + str(error))
sys.exit(main())
"""


def by_ssh(destination: ssh.Destination, model: Path, asked: Mapping[str, Any]) -> Link:
    """Logs in, starts the keeper and has it open a model; asked: what OPEN takes but `runtime`.

    Raises LinkError, with the line that deploys where that helps, or another UserError of ssh.start_python.
    """
    deploy = f"edge deploy {model} --to {destination}"

    def explain(code: int | None, said: bytes) -> LinkError:
        return _or_deploy(ssh.explain(destination, code, said), str(destination), deploy)

    def connect() -> PipeTransport:
        process = ssh.start_python(destination, inspect.getsource(places) + START_KEEPER)
        return PipeTransport(process, str(destination), explain=explain)

    link = Link(login.line(destination, connect), TICKS, ANSWER_S)
    return _opened(link, asked, str(destination), deploy)


def by_port(port: str, model: Path, asked: Mapping[str, Any]) -> Link:
    """Opens a model by the keeper that serves a serial port's other end; asked and errors as for by_ssh.

    What may be a login prompt or a shell is sent nothing that comes from a file before the keeper has answered.
    """
    link = Link(SerialTransport(port, has_break=False), TICKS, ANSWER_S)
    try:
        link.facts(GREET_S)
    except LinkError as error:
        link.close()
        agent = (places.HOME / places.AGENT).as_posix()
        raise LinkError(
            error.message,
            f"log in there with a terminal program, type {agent} and leave that program; or have a service start it "
            "(docs/link.md)",
        ) from None
    return _opened(link, asked, f"pi@{port}", f"edge deploy {model} --to ssh:[user@]host")


def _opened(link: Link, asked: Mapping[str, Any], name: str, deploy: str) -> Link:
    try:
        link.open({**asked, "runtime": code_digest()}, LOAD_S)
    except LinkError as error:
        link.close()
        raise _or_deploy(error, name, deploy) from None
    except BaseException:
        link.close()
        raise
    return link


def code_digest() -> str:
    """Of our files as this edge would deploy them."""
    return places.code_digest({name: path.read_bytes() for name, path in runtime_files.own_modules().items()})


def _or_deploy(error: LinkError, name: str, deploy: str) -> LinkError:
    """The error, or where deploying helps the one that says so."""
    _, found, why = error.message.partition(f"{places.NOT_DEPLOYED}: ")
    return LinkError(f"{name} is not ready: {why}", deploy) if found else error
