"""What the README promises: it is short, it names everything a user can name, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.cli import main
from edge.make import checkpoints
from firmware_tools import boards, emulators, flashers, ops

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def stems(package: object) -> list[str]:
    folder = Path(package.__file__).parent  # type: ignore[attr-defined]
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("command", sorted(main.commands))
def test_readme_names_command(command: str) -> None:
    assert f"edge {command}" in README


@pytest.mark.parametrize("board", boards.names())
def test_readme_names_board(board: str) -> None:
    assert f"`{board}`" in README


@pytest.mark.parametrize("plugin", stems(ops) + stems(checkpoints) + stems(emulators) + list(flashers.names()))
def test_readme_names_plugin(plugin: str) -> None:
    assert f"`{plugin}`" in README


@pytest.mark.parametrize("page", sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")}))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_changelog_has_an_unreleased_part() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_project_speaks_of_itself_alone() -> None:
    """No path of the machine it was written on, and the data made by others is known to one fixture only."""
    words = ("/wo" + "rk/", "sha" + "red/data", '"sha' + 'red"')
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".c", ".h", ".md", ".toml", ".txt", ".json"} and not any(
            part.startswith(".") or part in {"build", "dist"} for part in path.relative_to(ROOT).parts
        ):
            text = path.read_text(encoding="utf-8")
            allowed = words[:1] if path.name == "conftest.py" else words
            assert not [word for word in allowed if word in text], path
