"""Where things lie on a Raspberry Pi, below the home of the user who deploys; imported on both sides of the link.

    ~/.local/share/edge/
      runtime/DIGEST/        agent and packages, one folder for each set of them; written beside, then renamed
      runtime/current        text: the DIGEST in use
      models/SHA256.tflite   whole models, named by file_sha256; what is still coming is SHA256.part
      cache/                 packed weights, each made anew where it is in doubt
      edge-agent             a shell script that serves frames on the terminal it is started from

Only the standard library, and Python from 3.9 on: the first file that a Pi runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

HOME = Path(".local") / "share" / "edge"  # below the user's home
RUNTIME, CURRENT, MODELS, CACHE, AGENT = "runtime", "current", "models", "cache", "edge-agent"
DIGEST = re.compile(r"[0-9a-f]{64}")
PACKAGES = "packages"  # a folder of each runtime
CODE = ("edge", "firmware_tools")  # the folders of a runtime that hold our own files, and nothing else
NOT_DEPLOYED = "not deployed"  # begins what is said where `edge deploy` is what helps

UNUSABLE = 3  # exit code of an agent whose Python cannot import what is installed


def home() -> Path:
    """The folder of all that was deployed to this user of this machine."""
    return Path.home() / HOME


def model_file(file_sha256: str) -> Path:
    """Where the model of that hash lies; ValueError for what is no hash, so that no path is made of foreign text."""
    if not DIGEST.fullmatch(file_sha256):
        raise ValueError("a model is named by the SHA-256 of its file")
    return home() / MODELS / f"{file_sha256}.tflite"


def code(root: Path) -> dict[str, bytes]:
    """Our own files in a runtime's folder, by their names in it."""
    paths = [path for folder in CODE for path in (root / folder).rglob("*.py")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def code_digest(files: Mapping[str, bytes]) -> str:
    """What tells our files in one runtime from those in another."""
    listed = "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha256(listed.encode()).hexdigest()
