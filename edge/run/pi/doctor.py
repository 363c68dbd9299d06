"""What this machine, or a Raspberry Pi, has and lacks, and the line that fixes each; changes nothing anywhere."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata

from edge import __version__
from edge.run import permissions, reach, ssh
from edge.run.finding import Finding
from edge.run.pi import deploy
from edge.run.pi.computer import MB, Computer, obstacles, understand, warnings
from edge.run.pi.visit import Failed, Visit
from edge.terminal import one_line
from firmware_tools import emulators, toolchains
from firmware_tools.errors import MissingTool

RUNTIMES = ("ai-edge-litert", "tflite-runtime")
EXTRAS = {"chat": "jinja2", "gguf": "gguf", "hub": "huggingface_hub", "onnx": "onnx", "train": "tensorflow"}
RUNTIME_DISK_BYTES = 150 * MB  # archive and what is unpacked of it


def examine_here() -> list[Finding]:
    """This machine: what runs models, what builds and emulates, what reaches boards and Pis."""
    python = f"edge {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    parts = (_runtime(), _toolchains(), _emulators(), _extras(), _ssh(), _pip(), permissions.examine())
    return [Finding("ok", python), *(finding for part in parts for finding in part)]


def _runtime() -> Iterator[Finding]:
    for name in RUNTIMES:
        try:
            yield Finding("ok", f"target host: {name} {metadata.version(name)}")
            return
        except metadata.PackageNotFoundError:
            continue
    yield Finding("missing", "target host: LiteRT is not installed", "pip install ai-edge-litert")


def _toolchains() -> Iterator[Finding]:
    for name in toolchains.names():
        try:
            yield Finding("ok", f"toolchain {name}: {toolchains.load(name).version()}")
        except MissingTool as error:
            yield Finding(_state(name == toolchains.DEFAULT), f"toolchain {name}: {error.message}", error.hint)
        except metadata.PackageNotFoundError:
            what = f"toolchain {name}: the Python package of it is not installed"
            yield Finding(_state(name == toolchains.DEFAULT), what, "pip install ziglang")


def _emulators() -> Iterator[Finding]:
    for name in emulators.names():
        if (package := emulators.FROM_PIP.get(name)) is not None:
            found = importlib.util.find_spec(package) is not None
            hint = "" if found else f"pip install {package}"
        elif hasattr(module := emulators.load(name), "command"):  # it says which of its parts is missing
            try:
                found, hint = bool(module.command()), ""
            except MissingTool as error:
                found, hint = False, error.hint
        else:
            found = shutil.which(emulators.load(name).PROGRAM) is not None
            hint = "" if found else "apt install qemu-system-arm"
        what = f"emulator {name}" + ("" if found else " is not installed")
        yield Finding("ok" if found else _state(name in emulators.FROM_PIP), what, hint)


def _state(needed: bool) -> str:
    return "missing" if needed else "absent"


def _extras() -> Iterator[Finding]:
    have = [name for name, package in EXTRAS.items() if importlib.util.find_spec(package)]
    if have:
        yield Finding("ok", f"extras: {', '.join(have)}")
    if lack := [name for name in EXTRAS if name not in have]:
        yield Finding("absent", f"extras: {', '.join(lack)}", f"pip install 'edge-tinyml[{','.join(lack)}]'")


def _ssh() -> Iterator[Finding]:
    try:
        program = ssh.command(ssh.Destination(None, "localhost", None))[0]
        done = subprocess.run([program, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except MissingTool as error:
        yield Finding("absent", f"Raspberry Pis over ssh: {error.message}", error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("warning", f"Raspberry Pis over ssh: ssh -V fails: {error}")
    else:
        version = (done.stderr or done.stdout).strip().partition(",")[0]
        yield Finding("ok", f"Raspberry Pis over ssh: {version}")


def _pip() -> Iterator[Finding]:
    if importlib.util.find_spec("pip") is None:
        what = "pip, by which `edge deploy` gets the runtime of Raspberry Pis"
        yield Finding("absent", what, "python -m ensurepip (or with uv: uv pip install pip)")


def examine_other(target: str) -> list[Finding]:
    """Another computer; UserError where ssh does not get there."""
    destination = ssh.parse(target)
    with deploy.visit(destination) as there:
        return examine(there, str(destination))


def examine(there: Visit, target: str) -> list[Finding]:
    """What a computer is, what keeps models from running there, and what of edge it has."""
    computer = understand(there.found)
    findings = [Finding("ok", f"{target}: {computer.title()}")]
    findings += [Finding("missing", trouble.what, trouble.hint) for trouble in obstacles(computer)]
    findings += [Finding("warning", trouble.what, trouble.hint) for trouble in warnings(computer)]
    if computer.system == "Linux" and computer.python >= (3, 10, 0):
        findings += _deployed(there, computer, target)
    return findings


def _runtime_there(there: Visit, digest: str, code: object, target: str) -> Finding:
    """Whether the runtime in use starts, and is what this edge would bring."""
    again = f"edge deploy MODEL --to {target}"
    try:
        found = there.ask_facts("check", sha256=digest)
    except Failed as failed:
        return Finding("missing", f"runtime {digest[:12]} is deployed, but {one_line(failed.reason)}", again)
    what = f"runtime {digest[:12]} is deployed: {_name(found, 'runtime')}, numpy {_name(found, 'numpy')}"
    if code != reach.code_digest():
        return Finding("missing", f"{what}, by another version of edge", again)
    return Finding("ok", what)


def _name(found: dict[str, object], key: str) -> str:
    return one_line(str(found.get(key)))[:60]


def _deployed(there: Visit, computer: Computer, target: str) -> Iterator[Finding]:
    """What of edge is there."""
    there.start_installer()
    try:
        state = there.ask_facts("state")
    except Failed as failed:
        yield Finding("warning", f"what is deployed there cannot be read: {one_line(failed.reason)}")
        return
    models = state.get("models")
    sizes = {str(name): size for name, size in models.items()} if isinstance(models, dict) else {}
    if current := state.get("current"):
        yield _runtime_there(there, str(current), state.get("code"), target)
    else:
        yield Finding("absent", "no runtime is deployed yet", f"edge deploy MODEL --to {target}")
        if computer.disk_free_bytes is not None and computer.disk_free_bytes < RUNTIME_DISK_BYTES:
            left = f"{computer.disk_free_bytes / MB:,.0f} MB of disk are left"
            yield Finding(
                "warning", f"{left}, and a runtime takes {RUNTIME_DISK_BYTES / MB:,.0f} MB", "make room there"
            )
    for name, size in sorted(sizes.items()):
        megabytes = f"{size / MB:,.1f} MB" if isinstance(size, int) else ""
        yield Finding("ok", f"model {name[:12]}, {megabytes}")
