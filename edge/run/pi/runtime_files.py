"""What is unpacked on a Raspberry Pi: our own modules that run there, and of the wheels what these import.

Both are ZIP files. What they hold is named by a digest over names and contents, so that the same files have the same
name whoever packs them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import edge
from edge.replacing import replacing
from edge.run.agent.weight_cache import host_folder
from edge.run.pi import places
from edge.run.pi.wheels import Wheel
from firmware_tools.errors import BadFile

ROOT = Path(edge.__file__).resolve().parent.parent
STARTED = ("edge.run.agent.keeper", "edge.run.agent.__main__", "edge.run.pi.self_check")  # by their names
OURS = ("edge", "firmware_tools")
# of the packages what nothing of ours imports or loads: other accelerators, converters, tests
LEFT_OUT = re.compile(
    r"ai_edge_litert/(aot|vendors|tools|tflite)/|ai_edge_litert/libLiteRtWebGpuAccelerator\.|"
    r"ai_edge_litert/(schema_py_generated|descriptor_pb2)\.py|"
    r"numpy/(.+/)?tests/|numpy/(distutils|f2py|_core/include|_core/lib)/|.*\.(pyi|a|h|pyx|pxd)$|"
    r"[^/]+\.data/"  # scripts and headers
)
# serves frames on the terminal it is started from: a serial console or a USB gadget port
AGENT_SCRIPT = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
runtime="$here/runtime/$(cat "$here/runtime/current")"
export PYTHONPATH="$runtime:$runtime/packages" PYTHONSAFEPATH=1
cd /
exec python3 -m edge.run.agent.keeper "$@"
"""
TIME = (1980, 1, 1, 0, 0, 0)  # of every file in a ZIP, so that the same files give the same bytes


@dataclass(frozen=True)
class Archive:
    """A ZIP: digest names what it holds, unpacked_bytes is what that takes."""

    path: Path
    digest: str
    unpacked_bytes: int


def own_modules() -> dict[str, Path]:
    """Our modules that run there: those that are started, and all they import, by their paths below the root."""
    found: dict[str, Path] = {}
    waiting = list(STARTED)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or path.relative_to(ROOT).as_posix() in found:
            continue
        found[path.relative_to(ROOT).as_posix()] = path
        waiting += imports(path)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return dict(sorted(found.items()))


def _file_of(module: str) -> Path | None:
    if module.partition(".")[0] not in OURS:
        return None
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, and what may be one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_files() -> Archive:
    """Our modules as an archive in the cache."""
    files = {name: path.read_bytes() for name, path in own_modules().items()}
    digest = places.code_digest(files)
    path = host_folder() / "runtime" / f"edge-{digest}.zip"
    if not _is_whole(path):
        _make(path, files.items())
    return Archive(path, digest, sum(map(len, files.values())))


def packages_digest(wheels: Sequence[Wheel]) -> str:
    """The name of what is needed of wheels."""
    made_of = json.dumps([*([wheel.path.name, wheel.sha256] for wheel in wheels), LEFT_OUT.pattern])
    return hashlib.sha256(made_of.encode()).hexdigest()


def packages(wheels: Sequence[Wheel]) -> Archive:
    """What of wheels is needed, as one archive in the cache."""
    digest = packages_digest(wheels)
    path = host_folder() / "runtime" / f"packages-{digest}.zip"
    if not _is_whole(path):
        _make(path, _members(wheels))
    with zipfile.ZipFile(path) as archive:
        return Archive(path, digest, sum(member.file_size for member in archive.infolist()))


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _members(wheels: Sequence[Wheel]) -> Iterator[tuple[str, bytes]]:
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel.path) as archive:
                for member in archive.infolist():
                    if not member.is_dir() and not LEFT_OUT.match(member.filename):
                        yield member.filename, archive.read(member)
        except (zipfile.BadZipFile, OSError) as error:
            raise BadFile(f"{wheel.path} cannot be read: {error}", "delete it, and it is downloaded again") from error


def _make(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files:
            member = zipfile.ZipInfo(name, TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data)
