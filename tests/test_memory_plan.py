"""The drawn memory plan says what plan.py planned, to the byte."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import tiny

from edge.make import memory_plan
from edge.make.convert import convert
from edge.make.memory_plan import Region
from firmware_tools import boards, fuse, graph, plan

M4 = boards.load("virtual-m4")


@pytest.fixture(scope="module")
def regions() -> tuple[Region, ...]:
    return memory_plan.regions(fuse.program(graph.read(convert(tiny.checkpoint()))), M4, 2)


def test_regions_are_those_of_the_plan(regions: tuple[Region, ...]) -> None:
    program = fuse.program(graph.read(convert(tiny.checkpoint())))
    layout = plan.plan(program, M4.features, 2)
    assert max(region.offset_bytes + region.size_bytes for region in regions) <= layout.arena_bytes
    workspaces = [offset for offset in layout.workspace_offsets_bytes if offset is not None]
    assert [region.offset_bytes for region in regions if region.kind == "workspace"] == workspaces
    results = [region for region in regions if region.kind == "result"]
    assert len(results) == len(program.values)
    assert max(region.last for region in results) == len(program.calls)  # the logits live to the end


def test_every_call_has_its_column(regions: tuple[Region, ...]) -> None:
    lines = memory_plan.text(regions).splitlines()
    rows = [line.split(maxsplit=1)[1] for line in lines[1:-1]]
    assert len(rows) <= memory_plan.LINES and {len(row) for row in rows} == {26}
    assert memory_plan.SCRATCH in "".join(rows) and memory_plan.FREE in "".join(rows)
    assert "a embedding" in lines[-1] and "# workspace" in lines[-1]


def test_the_map_shows_what_lives() -> None:
    plan_of_two = [Region("first", "result", 0, 16, 0, 1), Region("second", "result", 16, 16, 1, 2)]
    lines = memory_plan.text(plan_of_two).splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["aa·", "·bb"]


def test_the_picture_is_to_scale(regions: tuple[Region, ...]) -> None:
    picture = ElementTree.fromstring(memory_plan.svg(regions, '<evil> & "quoted"'))
    boxes = [box for box in picture.iter("{http://www.w3.org/2000/svg}rect") if box.find("{*}title") is not None]
    drawn = [box for box in boxes if "bytes at" in (box.find("{*}title").text or "")]  # type: ignore[union-attr]
    assert len(drawn) == len(regions)
    heights = [float(box.attrib["height"]) / region.size_bytes for box, region in zip(drawn, regions, strict=True)]
    assert max(heights) == pytest.approx(min(heights), rel=0.02)
