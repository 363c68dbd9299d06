"""edge selftest: what it finds, what it leaves out, and which records count as silicon."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import zoo
from edge.cli import main
from edge.make import board_facts, catalogue, new_board
from edge.measure import selftest
from edge.measure.selftest import FAILED, PASSED, SKIPPED, SelfTest
from edge.run.target import Place
from firmware_tools import boards, build, graph, silicon
from firmware_tools.compile import compile_model
from firmware_tools.content import record_digest
from firmware_tools.emulators.unicorn import Device, UnicornTransport
from firmware_tools.errors import BadFile, LinkError, UserError

M4 = boards.load("virtual-m4")


def quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def image() -> build.Image:
    return build.build(compile_model(graph.read(zoo.find("intent")), M4), M4)


@pytest.fixture(scope="module")
def folder(image: build.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("image") / "intent"
    build.save(image, place)
    return place


def states(record: SelfTest) -> dict[str, str]:
    return {check.name: check.state for check in record.checks}


def said(record: SelfTest, name: str) -> str:
    return next(check.what for check in record.checks if check.name == name)


# --- an emulated board


@pytest.fixture(scope="module")
def emulated(folder: Path) -> SelfTest:
    return selftest.run("virtual-m4@unicorn", folder, None, quiet)


def test_emulated_board_passes_what_it_can(emulated: SelfTest, image: build.Image) -> None:
    assert states(emulated) == {name: SKIPPED if name == "clock" else PASSED for name in silicon.CHECKS}
    assert emulated.passed and emulated.emulated and emulated.clock == "instructions"
    assert emulated.says == "EMULATED virtual-m4" and emulated.image == image.facts.identity
    assert emulated.weights_in == image.facts.weights_in
    assert emulated.prefill_per_token and len(emulated.decode_repeats) == selftest.REPEATS


def test_it_is_never_called_silicon(emulated: SelfTest, tmp_path: Path) -> None:
    path = tmp_path / "virtual-m4.json"
    selftest.write(emulated, path)
    assert json.loads(path.read_text())["emulated"] is True
    with pytest.raises(BadFile, match="the board was emulated"):
        silicon.read(path)
    assert "emulated" in selftest.text(emulated, path) and "attach" not in selftest.text(emulated, path)


def test_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(selftest._Tester, "check", lambda self, name: selftest.Check(name, FAILED, "a reason"))
    with pytest.raises(SystemExit) as end:
        main(["selftest", "--on", "virtual-m4@unicorn", "--image", str(folder)])
    assert end.value.code == 1
    assert "link       failed   a reason" in capsys.readouterr().out
    written = json.loads((tmp_path / "selftest-virtual-m4.json").read_text())
    assert written["passed"] is False and written["sha256"] == record_digest(written)


@pytest.mark.parametrize("target", ["host", "ssh:pi@nowhere"])
def test_what_is_no_board_has_no_selftest(target: str) -> None:
    with pytest.raises(UserError, match="is no board"):
        selftest.run(target, None, None, quiet)


def test_image_of_something_else(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadFile, match="is no image of intent for virtual-m3"):
        selftest.run("virtual-m3@unicorn", folder, None, quiet)


# --- a board at a port, which says that it is silicon: simulated, so that all of the road is walked

NODE = platform.node()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[boards.Board, build.Image]]:
    """A board of one's own whose firmware does not say EMULATED, and which has trouble that names this computer."""
    place = tmp_path_factory.mktemp("boards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(boards.FOLDER, str(place))
        facts, port = new_board.write("virtual-m4", "ours", place)
        text = facts.read_text()
        text = text.replace('clock="instructions"', 'clock="seconds"').replace('("unicorn", "qemu")', "()")
        facts.write_text(text)
        header = (Path(boards.__file__).parent / "mps2.h").read_text()
        header = header.replace('"EMULATED " BOARD_NAME', "BOARD_NAME")
        header = header.replace('return "";', f'return "the crystal of {NODE} did not start";')
        (place / "mps2.h").write_text(header)
        board = boards.load("ours")
        yield board, build.build(compile_model(graph.read(zoo.find("intent")), board), board)


@contextlib.contextmanager
def plugged_in(
    board: boards.Board, image: build.Image, change: Callable[[Device], None] = lambda _: None
) -> Iterator[str]:
    """The board behind a serial line that is a socket; yields its URL."""
    device = Device(image, board, counting=True)
    change(device)
    line = UnicornTransport(device)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError, LinkError):
                connection.settimeout(0.005)
                while not ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        line.write(connection.recv(4096))
                    connection.sendall(line.read(0.005))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()
            line.close()


@pytest.fixture(scope="module")
def record(ours: tuple[boards.Board, build.Image], tmp_path_factory: pytest.TempPathFactory) -> SelfTest:
    board, image = ours
    place = tmp_path_factory.mktemp("ours") / "image"
    build.save(image, place)
    with plugged_in(board, image) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(selftest, "CLOCK_S", 0.2)
        return selftest.run(f"ours@{url}", place, None, quiet)


def test_board_at_a_port(record: SelfTest) -> None:
    found = states(record)
    assert found.pop("clock") in (PASSED, FAILED)  # a simulated clock beside a real one
    assert found.pop("hardware") == FAILED and "did not start" in said(record, "hardware")
    assert set(found.values()) == {PASSED}
    assert record.says == "ours" and record.clock == "seconds" and not record.emulated and not record.passed


def test_record_says_nothing_of_who_made_it(record: SelfTest) -> None:
    """The simulated firmware told the computer's name; ports and paths were in what the program knew."""
    text = json.dumps(selftest.to_json(record)).lower()
    assert "the crystal of … did not start" in said(record, "hardware")
    for private in (NODE.lower(), "socket", "127.0.0.1", str(Path.home()).lower(), "/tmp", "image/"):
        assert not re.search(rf"(?<!\w){re.escape(private)}(?!\w)", text)
    assert set(record.tools) == {"python", "numpy", "pyserial", "system"}


def test_words_that_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "mallory")
    monkeypatch.setattr(platform, "node", lambda: "castle.example.org")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/mallory"))
    device = type(
        "Plugged", (), {"port": "/dev/ttyACM7", "serial_number": "E66058388353", "volume": Path("/media/RPI")}
    )
    monkeypatch.setattr(selftest.ports, "plugged", lambda: [device])
    what = "/dev/ttyACM0, ttyACM0 and ttyACM7 of Mallory at castle (castle.example.org), E66058388353, /home/mallory/x"
    place = Place(M4, port="/dev/ttyACM0")
    (check,) = selftest.scrubbed([selftest.Check("link", FAILED, what)], place)
    assert check.what == "…, … and … of … at … (…), …, …/x"


def test_damaged_flash_is_found(ours: tuple[boards.Board, build.Image], tmp_path: Path) -> None:
    """One bit of one weight: the flash is not what was built, and logits are not those of the reference."""
    board, image = ours
    build.save(image, tmp_path / "image")

    def damage(device: Device) -> None:
        at = image.segments[0][0] + image.sizes.code_bytes + image.sizes.vocabulary_bytes + 40_000
        byte = device._core.mem_read(at, 1)[0]
        device._core.mem_write(at, bytes([byte ^ 0x40]))

    with plugged_in(board, image, damage) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(silicon, "CHECKS", ("flash", "identity", "logits"))
        found = selftest.run(f"ours@{url}", tmp_path / "image", None, quiet)
    assert states(found) == {"flash": FAILED, "identity": PASSED, "logits": FAILED}
    assert "logits at position" in said(found, "logits")


def test_other_firmware_is_found(ours: tuple[boards.Board, build.Image], tmp_path: Path) -> None:
    board, image = ours
    other = build.build(compile_model(graph.read(zoo.find("intent")), board), board, weights="ram")
    assert other.facts.identity != image.facts.identity
    build.save(other, tmp_path / "image")
    with plugged_in(board, image) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(silicon, "CHECKS", ("identity",))
        found = selftest.run(f"ours@{url}", tmp_path / "image", None, quiet)
    assert states(found) == {"identity": FAILED} and "edge build intent --board ours" in said(found, "identity")


@pytest.mark.parametrize(
    "device_s, least_s, most_s, error",
    [(3.0, 2.9, 3.1, 0), (2.9, 2.9, 3.1, 0), (3.3, 2.9, 3.0, 0.1), (2.0, 3.0, 3.1, 0.5), (0.0, 3.0, 3.1, float("inf"))],
)
def test_clock_error(device_s: float, least_s: float, most_s: float, error: float) -> None:
    assert selftest.clock_error(device_s, least_s, most_s) == pytest.approx(error)


# --- which records count


@pytest.fixture
def good(record: SelfTest, ours: tuple[boards.Board, build.Image]) -> dict[str, Any]:
    """The record that a real board would have left."""
    passed = tuple(selftest.Check(name, PASSED, "") for name in silicon.CHECKS)
    return selftest.to_json(dataclasses.replace(record, checks=passed, passed=True, date="2026-12-24"))


def saved(data: dict[str, Any], folder: Path, name: str = "ours", sign: bool = True) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**data, "sha256": record_digest(data)} if sign else data), encoding="utf-8")
    return path


def test_record_of_silicon_counts(good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(good, tmp_path)
    assert silicon.accepted(tmp_path)["ours"] == silicon.read(path)
    monkeypatch.setattr(silicon, "FOLDER", tmp_path)
    expected = f"2026-12-24, record {record_digest(good)[:12]}"
    assert silicon.ran(boards.load("ours")) == expected
    assert f"run on silicon: {expected}" in catalogue.boards_text(catalogue.boards())
    assert expected in board_facts.text(boards.load("ours"))
    assert expected in board_facts.markdown(["ours"])


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"emulated": True}, "emulated"),
        ({"emulated": None}, "emulated"),
        ({"schema": "edge.selftest/2.0"}, "schema"),
        ({"board": "virtual-m4", "says": "virtual-m4"}, "has no silicon"),
        ({"board": "no-such-board"}, "no board is called"),
        ({"board": 3}, "no board is called"),
        ({"says": "EMULATED ours"}, "what answered says"),
        ({"date": "yesterday"}, "date"),
        ({"checks": []}, "link, identity"),
        ({"checks": 5}, "link, identity"),
        ({"checks": [{"name": name, "state": SKIPPED} for name in silicon.CHECKS]}, "have not passed"),
    ],
)
def test_record_that_does_not_count(change: dict[str, Any], reason: str, good: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=reason):
        silicon.read(saved({**good, **change}, tmp_path))


def test_record_that_was_changed(good: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="hash"):
        silicon.read(saved({**good, "date": "2026-12-25"}, tmp_path, sign=False))


def test_record_under_the_name_of_another_board(good: dict[str, Any], tmp_path: Path) -> None:
    saved(good, tmp_path, "theirs")
    with pytest.raises(BadFile, match="is a record of ours"):
        silicon.accepted(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'"' + b" " * (2 << 20) + b'"'])
def test_file_that_is_no_record(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadFile):
        silicon.read(tmp_path / "x.json")


def test_accepted_records_of_this_project_count() -> None:
    assert set(silicon.accepted()) <= set(boards.shipped())
