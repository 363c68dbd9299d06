"""Profiles: the parts are those of the program, they add up to the step, and both emulators agree on each."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
import tiny

from edge import zoo
from edge.decide import profile as drawn
from edge.make.convert import convert
from edge.measure import record
from edge.measure.profile import profile
from edge.measure.record import Profile
from firmware_tools import boards, build, costs, emulators, fuse, graph
from firmware_tools.bfp_program import for_board
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu
from firmware_tools.errors import UserError

M4 = boards.load("virtual-m4")
POSITION = 9


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint()))


@pytest.fixture(scope="module")
def image(model: graph.Graph) -> build.Image:
    return build.build(compile_model(model, M4), M4)


@pytest.fixture(scope="module")
def found(model: graph.Graph, image: build.Image) -> Profile:
    return profile(model, image, M4, "unicorn", POSITION)


def test_parts_are_the_calls_and_add_up(model: graph.Graph, image: build.Image, found: Profile) -> None:
    calls = fuse.program(model).calls
    assert [part.op for part in found.parts] == [call.op for call in calls]
    assert [part.layer for part in found.parts] == ["embedding", *["layer 0"] * 11, *["layer 1"] * 11, *["logits"] * 2]
    with emulators.load("unicorn").open(image, counting=True) as link:
        link.prefill([3] * POSITION)
        whole = link.forward(3, POSITION)
    total = sum(part.instructions for part in found.parts)
    # between the gate and the step, and what the token, another one, takes more or less
    assert whole is not None and abs(whole - total) < 150
    assert all(part.instructions > 0 for part in found.parts)


def test_weight_bytes_are_what_a_token_reads(found: Profile, image: build.Image) -> None:
    read = sum(part.weight_bytes for part in found.parts)
    assert read < image.sizes.weight_bytes  # of the RoPE tables a row is read
    connected = [part for part in found.parts if part.op == "fully_connected"]
    assert sum(part.weight_bytes for part in connected) > 0.8 * read
    assert connected[-1].shape == "32→300" and connected[-1].weight_bytes == 300 * (32 + 4)


def test_more_positions_cost_attention_alone(model: graph.Graph, image: build.Image, found: Profile) -> None:
    later = profile(model, image, M4, "unicorn", POSITION + 10)
    for before, after in zip(found.parts, later.parts, strict=True):
        if before.op == "attention":
            assert after.instructions > 1.1 * before.instructions
        else:
            assert after.instructions == pytest.approx(before.instructions, rel=0.02, abs=20)


@pytest.mark.system
@pytest.mark.parametrize("newer", [False, True])
def test_qemu_agrees_part_by_part(
    newer: bool,
    model: graph.Graph,
    image: build.Image,
    found: Profile,
    tool: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the plugin interface of QEMU 7.2 to 8.2, and with that of QEMU 9 and later."""
    program = tool("qemu-system-arm")
    if newer and qemu.version(program) < (9, 0):
        program = os.environ.get(qemu.NEWER) or pytest.skip(f"no QEMU is newer: {qemu.NEWER} is not set")
        monkeypatch.setattr(qemu, "PROGRAM", program)
    strict = profile(model, image, M4, "qemu", POSITION)
    for a, b in zip(found.parts, strict.parts, strict=True):
        assert b.instructions == pytest.approx(a.instructions, rel=0.002, abs=4), a


@pytest.mark.parametrize("name", [name for name in boards.names() if boards.load(name).clock == "instructions"])
def test_prediction_meets_the_count(name: str, tool: Callable[[str], str]) -> None:
    """Of the shipped model, which took no part in finding the factors."""
    board, shipped = boards.load(name), graph.read(zoo.find("intent"))
    if board.emulators[0] == "qemu":
        tool("qemu-system-arm")
    image = build.build(compile_model(shipped, board), board)
    for position in (15, 95):
        counted = profile(shipped, image, board, board.emulators[0], position)
        total = sum(part.instructions for part in counted.parts)
        print(f"{name} at {position}: predicted {counted.predicted:,}, counted {total:,}")
        assert counted.predicted == pytest.approx(total, rel=0.03)
        assert costs.predict(for_board(fuse.program(shipped), board), board, position) == counted.predicted


def test_a_kernel_nobody_measured_has_no_prediction() -> None:
    unknown = dataclasses.replace(M4, cpu="cortex_m99")
    assert costs.predict(fuse.program(graph.read(zoo.find("intent"))), unknown) is None


def test_records_keep_profiles(found: Profile) -> None:
    run = record.Record(
        record.Model("m", "0" * 64, "1" * 64, "2" * 64, "int8"),
        record.Image(),
        "t",
        "b",
        True,
        "instructions",
        8,
        "now",
        {},
    )
    data = json.loads(json.dumps(record.to_json(dataclasses.replace(run, profile=found))))
    assert record.from_json(data).profile == found
    data["profile"]["parts"][0]["instructions"] = -1
    with pytest.raises(ValueError, match="profile.parts has|instructions has a value that it cannot have"):
        record.from_json(data)


def test_a_profile_can_be_read(found: Profile) -> None:
    text = drawn.text(found)
    assert "100.0%" in text and f"{sum(part.instructions for part in found.parts):,}" in text
    picture = ElementTree.fromstring(drawn.svg(found))
    titles = [title.text or "" for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("instructions" in title for title in titles) == 2 * len(found.parts)


def test_hostile_names_do_no_harm_in_a_picture(found: Profile) -> None:
    hostile = dataclasses.replace(found.parts[0], op='</svg><script>"&\x1b', layer="<b>\n")
    picture = ElementTree.fromstring(drawn.svg(Profile(3, (hostile, *found.parts))))
    assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))
    assert "\x1b" not in drawn.text(Profile(3, (hostile,)))


def test_positions_outside_are_refused(model: graph.Graph, image: build.Image) -> None:
    with pytest.raises(UserError, match="position 24 is not in the cache"):
        profile(model, image, M4, "unicorn", 24)
