"""This machine as the other computer: the probe and the installer in a child process, with a home of its own.

What pip would download are tiny wheels made here; LiteRT and numpy are those of the interpreter that runs the tests.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge.run.agent.weight_cache import host_folder
from edge.run.pi import deploy, probe, wheels
from edge.run.pi.computer import understand
from edge.run.pi.visit import Visit
from firmware_tools.errors import LinkError, UserError

SOURCE = Path(str(probe.__file__)).read_text(encoding="utf-8")
WHEEL = "tiny-thing==1.0"


class Here:
    """Its home, and its processes; most_file_bytes: no file may grow beyond that, as on a full disk."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.most_file_bytes: int | None = None

    @property
    def base(self) -> Path:
        return self.home / ".local" / "share" / "edge"

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", SOURCE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(self.home)}, preexec_fn=self._limit,
        )  # fmt: skip

    def _limit(self) -> None:
        if self.most_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.most_file_bytes, self.most_file_bytes))

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        with Visit(self.start(), explain) as there:
            yield there

    def deploy(self, model: Path) -> deploy.Deployed:
        with self.visit() as there:
            return deploy.deploy(model, there, "ssh:here", lambda what, done, total: None)

    def remove(self, model: str | None) -> deploy.Removed:
        with self.visit() as there:
            return deploy.remove(model, there, "ssh:here")

    def files(self) -> dict[str, int]:
        """Every file of ours and when it was written; but for bytecode and the lock, which each visit touches."""
        found = (path for path in self.base.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {str(path.relative_to(self.base)): path.stat().st_mtime_ns for path in found if path.name != "lock"}

    def platform(self) -> wheels.Platform:
        with self.visit() as there:
            return wheels.platform_of(understand(there.found))


def explain(code: int, stderr: bytes) -> UserError:
    return LinkError(f"ended with {code}: {stderr.decode(errors='replace')[-300:]}")


def put_wheel(platform: wheels.Platform, files: Mapping[str, str], requirement: str = WHEEL) -> Path:
    """A wheel in the cache, as if pip had downloaded it."""
    name, _, version = requirement.partition("==")
    folder = host_folder() / "wheels" / platform.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    make_wheel(path, files)
    (folder / f"{path.name}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def make_wheel(path: Path, files: Mapping[str, str]) -> None:
    name, version = path.name.split("-")[:2]
    about = f"{name}-{version}.dist-info"
    metadata = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, **metadata}.items():
            archive.writestr(member, text)
