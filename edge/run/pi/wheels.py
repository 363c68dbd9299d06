"""The wheels a Raspberry Pi needs, downloaded here by pip for its platform, and kept: no network is needed afterwards.

They lie in the user's cache folder, each with its SHA-256 beside it from the first download on (pip
has compared it with the index then); one that has changed since is downloaded again. Versions are the ones that edge
is tested with, so that the same edge brings the same runtime to every Pi.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.run.agent.weight_cache import host_folder
from edge.run.pi.computer import Computer
from firmware_tools.errors import MissingTool, UserError

LITERT, ML_DTYPES, TFLITE = "2.3.0", "0.6.0", "2.14.0"
NUMPY, NUMPY_3_10 = "2.4.6", "2.2.6"  # the second is the last for Python 3.10
LONG_S = 1800
NO_NETWORK = re.compile(
    "NewConnectionError|ConnectTimeout|ReadTimeout|Failed to establish|Temporary failure|Name or service|getaddrinfo|"
    "ProxyError|SSLError|Retrying|Connection refused|Could not fetch URL|unreachable"
)


@dataclass(frozen=True)
class Wheel:
    path: Path
    sha256: str


@dataclass(frozen=True)
class Platform:
    """What a wheel must be made for: an architecture as pip writes it, a CPython and a glibc, versions as pairs."""

    architecture: str
    python: tuple[int, int]
    glibc: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.abi}-glibc{self.glibc[0]}.{self.glibc[1]}"

    @property
    def abi(self) -> str:
        return f"cp{self.python[0]}{self.python[1]}"

    @property
    def tags(self) -> list[str]:
        """Platform tags that fit, the newest first; 2.17 is the oldest that is still used."""
        major, minor = self.glibc
        return [f"manylinux_{major}_{n}_{self.architecture}" for n in range(minor, 16, -1)] + [
            f"manylinux2014_{self.architecture}"
        ]


def platform_of(computer: Computer) -> Platform:
    """Of a computer that has no obstacles."""
    assert computer.glibc and computer.architecture
    return Platform(computer.architecture, computer.python[:2], computer.glibc)


def requirements(platform: Platform) -> list[str]:
    """What is imported there and not of the standard library; a 32-bit system has its own numpy."""
    if platform.architecture == "armv7l":
        return [f"tflite-runtime=={TFLITE}"]
    numpy = NUMPY_3_10 if platform.python < (3, 11) else NUMPY
    return [f"ai-edge-litert=={LITERT}", f"ml-dtypes=={ML_DTYPES}", f"numpy=={numpy}"]


def wheels(platform: Platform, wanted: Sequence[str] | None = None) -> list[Wheel]:
    """The wheels for a platform, from the cache or else downloaded, in the order of requirements.

    wanted: other requirements, each NAME==VERSION. MissingTool without pip, UserError where pip fails.
    """
    needed = list(wanted or requirements(platform))
    folder = host_folder() / "wheels" / platform.name
    if missing := [name for name in needed if _cached(folder, name) is None]:
        _download(folder, platform, missing)
    found = [_cached(folder, name) for name in needed]
    assert all(found), f"pip has downloaded something else than {needed}"
    return [wheel for wheel in found if wheel]


def _cached(folder: Path, requirement: str) -> Wheel | None:
    """The wheel of a requirement, if it is still what it was."""
    name, _, version = requirement.partition("==")
    for path in sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with suppress(OSError):
            if (folder / f"{path.name}.sha256").read_text(encoding="ascii").strip() == sha256:
                return Wheel(path, sha256)
    return None


def _download(folder: Path, platform: Platform, missing: Sequence[str]) -> None:
    """Fetches wheels beside the cache, then moves each there, its hash first."""
    if importlib.util.find_spec("pip") is None:
        hint = f"{Path(sys.executable).name} -m ensurepip (or with uv: uv pip install pip)"
        raise MissingTool("pip, which downloads the runtime for the other computer, is not installed", hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".coming-", dir=folder) as coming:
            _run_pip(Path(coming), platform, missing)
            for path in Path(coming).glob("*.whl"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                (folder / f"{path.name}.sha256").write_text(digest + "\n", encoding="ascii")
                os.replace(path, folder / path.name)
    except OSError as error:
        raise UserError(f"cannot keep what is downloaded in {folder}: {error.strerror}", "make room there") from error


def _run_pip(folder: Path, platform: Platform, missing: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--retries", "2", "--timeout", "30", "--dest", str(folder)]
    command += ["--implementation", "cp", "--python-version", f"{platform.python[0]}.{platform.python[1]}"]
    for abi in (platform.abi, "abi3", "none"):
        command += ["--abi", abi]
    for tag in platform.tags:
        command += ["--platform", tag]
    try:
        done = subprocess.run(
            [*command, *missing], stdin=subprocess.DEVNULL, capture_output=True, timeout=LONG_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"pip has not downloaded {', '.join(missing)} in half an hour", "try again") from None
    if done.returncode:
        raise _why(done.stderr.decode(errors="replace"), platform, missing)


def _why(said: str, platform: Platform, missing: Sequence[str]) -> UserError:
    """A failure of pip in our words: where it reaches nothing, it says at the end that there is no such version."""
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    what = ", ".join(missing)
    if "No module named pip" in said:
        return MissingTool("pip, which downloads the runtime for the other computer, is broken", "reinstall it")
    if NO_NETWORK.search(said):
        hint = "connect this machine once; what it has downloaded is kept, and later deploys need no network"
        return UserError(f"{what} is not in the cache, and pip reaches no package index", hint)
    if "No matching distribution" in said:
        hint = "does this machine's pip use an index that has it? (pip config list)"
        return UserError(f"the package index has no wheel of {what} for {platform.name}", hint)
    return UserError(f"pip cannot download {what}: {(errors or ['it does not say why'])[0][:200]}", "try again later")
