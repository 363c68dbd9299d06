"""What a board does about answers: actions.toml becomes C, which does what the file says and nothing else."""

from __future__ import annotations

import ctypes
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from link_device import Terminal

from edge import zoo
from edge.make.convert import convert
from edge.measure.evaluate import evaluate_task
from edge.run import generate
from edge.run.target import open_target
from firmware_tools import actions, boards, build, graph
from firmware_tools.compile import Sources, compile_model
from firmware_tools.emulators import rp2040js
from firmware_tools.emulators.unicorn import Device, UnicornTransport
from firmware_tools.errors import BadFile, MissingTool, UserError
from firmware_tools.link import Clock, Link

M4 = boards.load("virtual-m4")
SHIPPED = zoo.folder() / "intent" / "actions.toml"
HOME = """
[[action]]
answer = "light_on room=kitchen"
pin = "P1"
do = "on"
[[action]]
answer = "light_on"
pin = ["LED", "P2"]
do = "on"
[[action]]
answer = "light_off"
pin = ["LED", "P1", "P2"]
do = "off"
[[action]]
answer = "music_next"
pin = "P3"
do = "toggle"
[[action]]
answer = "alarm_set"
pin = "LED"
do = "pulse"
ms = 20
"""


@pytest.fixture(scope="module")
def intent() -> graph.Graph:
    return graph.read(zoo.find("intent"))


@pytest.fixture(scope="module")
def sources(intent: graph.Graph) -> Sources:
    return compile_model(intent, M4)


def written(folder: Path, text: str, name: str = "actions.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def image(sources: Sources, intent: graph.Graph, tmp_path_factory: pytest.TempPathFactory) -> build.Image:
    path = written(tmp_path_factory.mktemp("home"), HOME)
    return build.build(actions.add(sources, path, intent, M4), M4)


@pytest.fixture(scope="module")
def pico(intent: graph.Graph) -> build.Image:
    try:
        rp2040js.command()
    except MissingTool as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    board = boards.load("pico")
    return build.build(actions.add(compile_model(intent, board), SHIPPED, intent, board), board)


# --- the C


class Pins:
    """The C of actions on this machine: what it does about an answer, in order."""

    def __init__(self, folder: Path, source: str) -> None:
        self.done: list[str] = []
        (folder / "actions.c").write_text(source, encoding="utf-8")
        (folder / "stub.c").write_text(
            '#include "answer.h"\n#include "port.h"\nvoid (*tell)(const char *), (*set)(unsigned, int);\n'
            "static uint32_t now;\nuint32_t port_millis(void) { return now; }\nvoid port_idle(void) { now += 7; }\n"
            "void port_pin(unsigned pin, int high) { set(pin, high); }\n"
            "void answer_tell(const char *what) { tell(what); }\n",
            encoding="utf-8",
        )
        files = [folder / "actions.c", folder / "stub.c"]
        self._c = ctypes.CDLL(str(build.build_host(files, [build.RUNTIME], folder / "actions.so", sanitize=True)))
        hear, put = ctypes.CFUNCTYPE(None, ctypes.c_char_p), ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_int)
        self._tell = hear(lambda text: self.done.append(text.decode()))
        self._set = put(lambda pin, high: self.done.append(f"{pin}={high}"))
        ctypes.c_void_p.in_dll(self._c, "tell").value = ctypes.cast(self._tell, ctypes.c_void_p).value
        ctypes.c_void_p.in_dll(self._c, "set").value = ctypes.cast(self._set, ctypes.c_void_p).value

    def hear(self, answer: bytes) -> list[str]:
        self.done.clear()
        self._c.on_answer(answer, ctypes.c_size_t(len(answer)))
        return list(self.done)


@pytest.fixture(scope="module")
def pins(sources: Sources, intent: graph.Graph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pins]:
    folder = tmp_path_factory.mktemp("pins")
    yield Pins(folder, actions.add(sources, written(folder, HOME), intent, M4).files[actions.FILE])


@pytest.mark.parametrize(
    "answer, done",
    [
        (b"light_on", ["0=1", "LED on", "2=1", "P2 on"]),
        (b"light_on room=kitchen", ["1=1", "P1 on"]),
        (b"light_on  room=kitchen ", ["1=1", "P1 on"]),
        (b" light_on", ["0=1", "LED on", "2=1", "P2 on"]),
        (b"light_on room=kitchens", ["0=1", "LED on", "2=1", "P2 on"]),
        (b"light_onx", []),
        (b"light_o", []),
        (b"room=kitchen light_on", []),
        (b"", []),
        (b" ", []),
        (b"alarm_set time=07:30", ["0=1", "LED on", "0=0", "LED off"]),
    ],
)
def test_c_does_what_the_file_says(pins: Pins, answer: bytes, done: list[str]) -> None:
    assert pins.hear(answer) == done


def test_toggle_goes_back_and_forth(pins: Pins) -> None:
    assert [pins.hear(b"music_next")[0] for _ in range(3)] == ["3=1", "3=0", "3=1"]


WORDS = st.sampled_from(["light_on", "light_off", "room=kitchen", "room=office", "light_o", "", "level=20"])


@settings(deadline=None, max_examples=200)
@given(words=st.lists(WORDS, max_size=5))
def test_first_action_that_matches(pins: Pins, words: list[str]) -> None:
    said = [word for word in words if word]
    expected: list[str] = []
    if said[:1] == ["light_on"]:
        expected = ["1=1"] if "room=kitchen" in said else ["0=1", "2=1"]
    elif said[:1] == ["light_off"]:
        expected = ["0=0", "1=0", "2=0"]
    assert [done for done in pins.hear(" ".join(words).encode()) if "=" in done] == expected


# --- on a board


def test_person_at_a_terminal_switches_a_pin(image: build.Image) -> None:
    """No edge at the other end: keys in, text out, and the LED is on."""
    device = Device(image, M4, counting=False)
    terminal = Terminal(UnicornTransport(device))
    try:
        terminal.read_until(b"m-ready\r\n")
        terminal.send(b"\r")
        terminal.read_until(b"> ")
        terminal.send(b"turn on the kitchen light\r")
        shown = b"turn on the kitchen light\r\nlight_on room=kitchen\r\n[P1 on]\r\n> "
        assert terminal.read_until(b"\r\n> ") == shown
        assert device.pins == [0, 0b0010]
        terminal.send(b"turn on the light\r")
        assert terminal.read_until(b"\r\n> ").endswith(b"light_on\r\n[LED on]\r\n[P2 on]\r\n> ")
        assert device.pins[-1] == 0b0111
    finally:
        terminal.line.close()


@pytest.mark.system
@pytest.mark.parametrize("port", ["uart", "usb"])
def test_on_a_pico_turn_on_the_light_lights_the_led(port: str, pico: build.Image, tmp_path: Path) -> None:
    """The shipped model with its shipped actions, at a terminal, on the Pico's chip: emulated, with its real pins."""
    report = tmp_path / "report.json"
    terminal = Terminal(rp2040js.Rp2040Transport(pico, port=port, report=report))
    try:
        terminal.send(b"\0%")
        terminal.read_until(b"m-ready\r\n", 60.0)
        terminal.quiet()
        terminal.send(b"\r")
        terminal.read_until(b"> ", 60.0)
        for typed, shown in (("turn on the light", "light_on\r\n[LED on]"), ("lights off", "light_off\r\n[LED off]")):
            terminal.send(f"{typed}\r".encode())
            assert terminal.read_until(b"\r\n> ", 120.0).decode() == f"{typed}\r\n{shown}\r\n> "
    finally:
        terminal.line.close()
    led = boards.load("pico").pins["LED"]
    edges = json.loads(report.read_text(encoding="ascii"))["edges"]
    assert [level for pin, level, _ in edges if pin == led] == [1, 0]


def test_frames_act_for_a_user_and_not_for_a_measurement(
    image: build.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(image, M4, counting=False)
    link = Link(UnicornTransport(device), Clock("instructions", 1.0, counting=False))
    monkeypatch.setattr("edge.run.target.connect", lambda *_, **__: (link, image))
    task = tmp_path / "one.jsonl"
    task.write_text('{"prompt": "turn on the light", "answer": "light_on"}\n', encoding="utf-8")
    with open_target("virtual-m4", zoo.find("intent")) as running:
        greedy = generate.sampler(True, None, None, None)
        assert evaluate_task(running, task, name="one")
        assert device.pins == [0]
        shown: list[str] = []
        answer = generate.answer(running, "turn on the light", None, greedy, shown.append, act=True)
        assert (answer.text, answer.acted, device.pins[-1]) == ("light_on", "LED on,P2 on", 0b0101)
        assert "".join(shown) == "light_on\n[LED on,P2 on]\n"
        cut = generate.answer(running, "turn off the light", 1, greedy, None, act=True)
        assert (cut.ended, cut.acted, device.pins[-1]) == ("length", "", 0b0101)


def test_image_says_what_it_does(image: build.Image, sources: Sources, tmp_path: Path) -> None:
    assert image.facts.actions[0] == "light_on room=kitchen: P1 on"
    assert image.facts.actions[-1] == "alarm_set: LED pulse 20 ms"
    assert build.build(sources, M4).facts.identity != image.facts.identity
    build.save(image, tmp_path / "image")
    assert build.load(tmp_path / "image") == image


def test_c_of_ones_own(sources: Sources, intent: graph.Graph, tmp_path: Path) -> None:
    own = (
        '#include "answer.h"\nvoid on_answer(const char *answer, size_t length) { if (length) answer_tell(answer); }\n'
    )
    added = actions.add(sources, written(tmp_path, own, "own.c"), intent, M4)
    device = Device(build.build(added, M4), M4, counting=False)
    with Link(UnicornTransport(device), Clock("instructions", 1.0, counting=False)) as link:
        assert link.hello().acts
        link.prefill([1, *link.encode(b"turn on the light\n")])
        link.generate(20, generate.sampler(True, None, None, None), seed=True, act=True)
        assert link.acted() == "light_on"


# --- files that are wrong

GOOD = '[[action]]\nanswer = "light_on"\npin = "LED"\ndo = "on"\n'


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has no [[action]]"),
        ('[action]\nanswer = "light_on"\n', "write [[action]], twice ["),
        ("[[action]]\nanswer =\n", "is not TOML: Invalid value (at line 2, column 9)"),
        ('title = "x"\n' + GOOD, "'title' is not known here"),
        (GOOD + "level = 3\n", "action 1: 'level' is not known"),
        (GOOD.replace("light_on", "light_onn"), "action 1: the model never answers 'light_onn'"),
        (GOOD.replace("light_on", "light_on color=red"), "action 1: light_on has no slot 'color'"),
        (GOOD.replace("light_on", "light_on  room=x"), "answer is not words"),
        (GOOD.replace("light_on", "light_on\\n"), "answer is not words"),
        (GOOD.replace("light_on", "é"), "answer is not words"),
        (GOOD + GOOD.replace("LED", "GP15").replace("light_on", "light_off"), "action 2: virtual-m4 has no pin 'GP15'"),
        (GOOD.replace('"LED"', "[]"), "empty list"),
        (GOOD.replace('"LED"', '["LED", "LED"]'), "names a pin twice"),
        (GOOD.replace('"LED"', "[3]"), "has no pin 3"),
        (GOOD.replace('"LED"', "3"), "pin is not a text"),
        (GOOD.replace('"on"', '"blink"'), "do is not 'blink'"),
        (GOOD.replace('do = "on"\n', ""), "'do' is missing"),
        (GOOD + "ms = 20\n", "ms goes with"),
        (GOOD.replace('"on"', '"pulse"\nms = 0'), "ms is from 1 to 5000"),
        (GOOD.replace('"on"', '"pulse"\nms = true'), "ms is not a number"),
        (GOOD + GOOD, "action 2 is never carried out: action 1 matches all that it does"),
        (GOOD + GOOD.replace("light_on", "light_on room=attic"), "action 2 is never carried out"),
        ("action = [1]\n", "action 1: is not a table"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, sources: Sources, intent: graph.Graph, tmp_path: Path) -> None:
    with pytest.raises(BadFile) as failure:
        actions.add(sources, written(tmp_path, text), intent, M4)
    assert message in failure.value.message and failure.value.hint


def test_what_cannot_be_read(sources: Sources, intent: graph.Graph, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "missing.toml", tmp_path / "binary.toml", written(tmp_path, "int x;", "own.c")):
        with pytest.raises(BadFile):
            actions.add(sources, path, intent, M4)


def test_model_whose_card_has_no_answers_takes_any(sources: Sources, tmp_path: Path) -> None:
    other = graph.read(convert(tiny.checkpoint()))
    path = written(tmp_path, GOOD.replace("light_on", "anything slot=x"))
    assert actions.add(sources, path, other, M4).actions == ("anything slot=x: LED on",)


def test_plain_model_has_no_answers(sources: Sources, intent: graph.Graph) -> None:
    with pytest.raises(UserError, match="no language model"):
        actions.add(dataclasses.replace(sources, kind="plain"), SHIPPED, intent, M4)


@pytest.mark.parametrize("board", [name for name in boards.names() if "LED" in boards.load(name).pins])
def test_shipped_actions_fit_every_board_with_a_led(board: str, sources: Sources, intent: graph.Graph) -> None:
    assert actions.add(sources, SHIPPED, intent, boards.load(board)).actions[0] == "light_on: LED on"
