"""Writes a folder whole or not at all, in place of one that was written before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from firmware_tools.errors import UserError


def replace(folder: Path, what: str, is_ours: Callable[[Path], bool], write: Callable[[Path], None]) -> None:
    """Has `write` make the folder under another name, then gives it its own.

    A folder that is there already goes where is_ours says that it may, or where it is empty. UserError, which calls
    what should lie there `what`, where it holds anything else or cannot be written.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and (is_ours(folder) or not any(folder.iterdir()))):
        raise UserError(f"{folder} exists and is not {what}", "give another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            write(new)
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}", "give a folder that you may write") from error
