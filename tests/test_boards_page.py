"""docs/boards.md says what facts and accepted records say; the form for records is one that GitHub takes.

`python -m tests.test_boards_page --update` writes the page anew from the facts.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.make import board_facts, catalogue
from firmware_tools import boards, flashers, silicon

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "boards.md"
FORM = ROOT / ".github" / "ISSUE_TEMPLATE" / "board.yml"
BEGIN = "<!-- made from facts: python -m tests.test_boards_page --update -->\n"
END = "<!-- end -->\n"


def parts() -> tuple[str, str, str]:
    """The page before what is made, that, and the rest."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made, _, after = rest.partition(END)
    assert after, f"{PAGE} has lost its marks"
    return before + BEGIN, made, END + after


def made() -> str:
    return f"\n{board_facts.markdown(boards.shipped())}\n"


def test_page_is_made_from_the_facts() -> None:
    assert parts()[1] == made(), "python -m tests.test_boards_page --update"


def test_table_and_command_agree_on_silicon() -> None:
    rows = {
        cells[1].strip(" `[").partition("`")[0]: cells[6].strip()
        for cells in (re.split(r"(?<!\\)\|", line) for line in parts()[1].splitlines())
        if len(cells) == 9 and "`" in cells[1]
    }
    assert rows == {row["name"]: row["ran_on_silicon"] for row in catalogue.boards()}
    for name, said in rows.items():
        assert (re.match(r"20\d\d-\d\d-\d\d, record [0-9a-f]{12}", said) is not None) == (name in silicon.accepted())


@pytest.mark.parametrize("name", boards.shipped())
def test_board_of_silicon_has_all_that_a_user_asks(name: str) -> None:
    """Wiring, supply, measuring point, how it is flashed, and a source for what cannot be seen in the code."""
    board = boards.load(name)
    if board.clock != "seconds":
        return
    for fact in ("link", "prefill_pin", "decode_pin", "supplies", "current", "cycle_counter", "flashers", "clock_hz"):
        assert getattr(board, fact), f"{name} does not say its {fact}"
    for fact in ("flash", "ram", "clock_hz", "pins", "link", "supplies", "current"):
        assert board.sources.get(fact), f"{name} does not say where its {fact} is from"


# --- the form


def form() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    read: dict[str, Any] = yaml.safe_load(FORM.read_text(encoding="utf-8"))
    return read


ATTRIBUTES = {
    "markdown": {"value"},
    "input": {"label", "description", "placeholder", "value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
    "checkboxes": {"label", "description", "options"},
}
NEEDED = {"markdown": {"value"}, "dropdown": {"label", "options"}, "checkboxes": {"label", "options"}}


def test_form_has_the_keys_of_githubs_schema() -> None:
    read = form()
    assert (
        {"name", "description", "body"}
        <= read.keys()
        <= {*("name", "description", "body", "title", "labels", "assignees", "projects", "type")}
    )
    assert all(isinstance(read[key], str) and read[key] for key in ("name", "description", "title"))
    assert all(isinstance(label, str) for label in read["labels"])
    ids = [part["id"] for part in read["body"] if "id" in part]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z0-9_-]+", one) for one in ids)
    for part in read["body"]:
        assert part.keys() <= {"type", "id", "attributes", "validations"}
        attributes = part["attributes"]
        assert NEEDED.get(part["type"], {"label"}) <= attributes.keys() <= ATTRIBUTES[part["type"]]
        assert (
            part.get("validations", {}).keys() <= {"required"}
            and "validations" not in part
            or part["type"] in (*("input", "textarea", "dropdown"),)
        )
    assert any(part["type"] != "markdown" for part in read["body"])


def test_form_asks_for_the_record_that_selftest_writes() -> None:
    body = {part.get("id"): part for part in form()["body"]}
    assert body["record"]["attributes"]["render"] == "json" and body["record"]["validations"]["required"]
    guide = form()["body"][0]["attributes"]["value"]
    assert "edge selftest --on BOARD@auto" in guide and "edge flash image --to BOARD@auto" in guide
    options = body["flasher"]["attributes"]["options"]
    folder = Path(str(flashers.__file__)).parent
    assert {path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py")} & set(options)
    assert len(set(options)) == len(options)


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    first, _, last = parts()
    PAGE.write_text(first + made() + last, encoding="utf-8", newline="\n")
