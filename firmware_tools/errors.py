"""The errors a user can cause, each one sentence and a hint; `edge/cli.py` catches the family once.

    UserError
    ├── BadFile        a file that is not what it should be (not a .tflite, truncated, hostile)
    ├── DoesNotFit     a model that the board has no room for; says by how many bytes
    ├── LinkError      the other end is silent, busy, garbled, or runs another model
    └── MissingTool    a compiler, emulator or optional package that is not installed

Whatever else is raised is a fault of this program.
"""

from __future__ import annotations


class UserError(Exception):
    """What went wrong in one sentence, and what to do about it.

    Args:
        message: one sentence, no trailing full stop; names the file, board or port concerned.
        hint: what the user can type or change; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadFile(UserError):
    """A file that is missing, unreadable, truncated or not of the format it should be."""


class DoesNotFit(UserError):
    """An image larger than the flash, RAM or stack of its board."""


class LinkError(UserError):
    """No valid answer from the device, or an answer from the wrong one."""


class MissingTool(UserError):
    """A program or package that this step needs and this machine lacks."""
