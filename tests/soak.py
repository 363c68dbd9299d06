"""The long campaigns, by `make soak`: many seeds of what the tests run with few. Their last result is soak.json.

    link faults    conversations over a line that drops, flips and doubles bytes: every answer right, no step twice
    model files    damaged .tflite files; each is refused with one message, or read to the end of the road
    device         tokens of the shipped model on virtual boards, bit for bit those of the numpy model
    integer ops    random operators of .tflite files: numpy and a Cortex-M4 compute what LiteRT does, bit for bit
    usb            hosts that send anything to the Picos' USB port: it stays within its memory and its time
    flash          faulty simulated boot loaders, volumes and probes: a right flash, or an error that says what is there
    pi             deploys to a virtual Raspberry Pi whose cable is pulled at any moment: the next one completes them

`python tests/soak.py --seed S --minutes M` begins with another seed; a failure prints the seed that repeats it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import flash_states
import numpy as np
import pytest
import test_flash_bootsel
import test_flash_stlink_volume
import test_flash_stm32_uart
import test_flash_swd
import test_int8_ops
import test_link
import test_pi_road
import test_rp_usb
import tiny
import virtual_pi
import virtual_pi_userland
from cortex import M4
from link_device import Device, compile_device
from single_op import Compiled, same

from edge import zoo
from edge.make import checkpoints, convert
from firmware_tools import boards, build, compile, fuse, graph, interpret
from firmware_tools.bfp_program import for_board
from firmware_tools.emulators import unicorn
from firmware_tools.errors import BadFile, UserError

OPS_A_SEED = 20
RESULT = Path(__file__).with_suffix(".json")
Campaign = Callable[[int], None]  # takes a seed


@contextmanager
def link_faults(folder: Path) -> Iterator[Campaign]:
    program = compile_device(folder)

    def campaign(seed: int) -> None:
        device = Device(program)
        try:
            test_link.test_faults_neither_spoil_an_answer_nor_repeat_a_step(device, seed)
        finally:
            device.end()

    yield campaign


@contextmanager
def model_files(folder: Path) -> Iterator[Campaign]:
    whole = convert.convert(checkpoints.load(zoo.folder() / "intent" / "checkpoint.npz"))
    board = boards.load("virtual-m4")

    def campaign(seed: int) -> None:
        pick, damaged = random.Random(seed), bytearray(whole)
        for _ in range(pick.randint(1, 8)):
            # most bytes are weights; the structure lies at both ends
            at = pick.choice(
                (pick.randrange(4096), len(whole) - 1 - pick.randrange(60_000), pick.randrange(len(whole)))
            )
            damaged[at] = pick.randrange(256)
        try:
            model = graph.read(bytes(damaged))
        except BadFile:
            return
        try:
            compile.compile_model(model, board)
        except UserError:
            return

    yield campaign


@contextmanager
def device(folder: Path) -> Iterator[Campaign]:
    model = graph.read(convert.convert(checkpoints.load(zoo.folder() / "intent" / "checkpoint.npz")))
    with ExitStack() as stack:
        links = []
        for board in map(boards.load, ("virtual-m4", "virtual-m0")):
            image = build.build(compile.compile_model(model, board), board)
            links.append((for_board(fuse.program(model), board), stack.enter_context(unicorn.open(image))))

        def campaign(seed: int) -> None:
            program, link = links[seed % len(links)]
            ids = np.random.default_rng(seed).integers(0, program.vocab_size, 24).tolist()
            run = interpret.start(program)
            for position, id in enumerate(ids):
                link.forward(id, position)
                expected = interpret.step(program, run, id, position)
                assert link.logits().tobytes() == expected.tobytes(), f"position {position}"

        yield campaign


@contextmanager
def integer_ops(folder: Path) -> Iterator[Campaign]:
    strategies = [strategy for strategy, _ in test_int8_ops.COUNTS.values()]

    def campaign(seed: int) -> None:
        found = test_int8_ops.collect(strategies[seed % len(strategies)], OPS_A_SEED, seed)
        compiled = Compiled(found, folder, M4, M4.features)
        for i, one in enumerate(found):
            for inputs, expected in zip(one.inputs, one.expected, strict=True):
                outputs = compiled.run(i, one, inputs)
                assert same(outputs, expected), f"{one.name}\n{outputs}\nLiteRT: {expected}"

    yield campaign


@contextmanager
def usb(folder: Path) -> Iterator[Campaign]:
    program = test_rp_usb.compile_fuzz(folder)

    def campaign(seed: int) -> None:
        test_rp_usb.fuzz(program, 1000 * seed, 1000)

    yield campaign


@contextmanager
def flash(folder: Path) -> Iterator[Campaign]:
    volumes = (test_flash_bootsel, test_flash_stlink_volume)

    def campaign(seed: int) -> None:
        flash_states.firmware.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            if seed % 100 == 0 and shutil.which("openocd"):
                test_flash_swd.campaign(folder, seed)
            elif seed % 4:
                test_flash_stm32_uart.campaign(patch, seed)
            else:
                tested, place = volumes[seed // 4 % 2], folder / "computer"
                tested.campaign(tested.simulated(place, patch), seed)
                shutil.rmtree(place)

    yield campaign


@contextmanager
def pi(folder: Path) -> Iterator[Campaign]:
    models = {name: folder / f"{name}.tflite" for name in ("int8", "large")}
    convert.save(convert.convert(checkpoints.load(zoo.folder() / "intent" / "checkpoint.npz")), models["int8"])
    convert.save(convert.convert(tiny.checkpoint(**test_pi_road.LARGE), "float32"), models["large"])
    with virtual_pi.switched_on(virtual_pi_userland.PI64) as one:

        def campaign(seed: int) -> None:
            pick = random.Random(seed)
            model = pick.choice(list(models.values()))
            one.throttle(pick.choice(["10mbit", "40mbit", "10gbit"]))
            for _ in range(pick.randint(1, 3)):
                cut(one, model, pick.uniform(0, 12))
            test_pi_road.deploy(one, model)
            digest = hashlib.sha256(model.read_bytes()).hexdigest()
            there = one.path(f"{test_pi_road.HOME}/models/{digest}.tflite")
            assert there.read_bytes() == model.read_bytes()
            assert not [name for name in one.files() if name.endswith((".part", ".new", ".zip"))]
            again = test_pi_road.deploy(one, model)
            assert again["runtime_sent_bytes"] == again["model_sent_bytes"] == 0
            if pick.random() < 0.5:
                test_pi_road.edge(one, "deploy", "--to", one.target, "--remove")
                assert test_pi_road.clean(one)

        yield campaign


def cut(one: virtual_pi.VirtualPi, model: Path, after_s: float) -> None:
    """A deploy whose cable is pulled after a time; it ends with a message, or had ended."""
    command = test_pi_road.deploying(one, model, EDGE_SSH=test_pi_road.IMPATIENT)
    time.sleep(after_s)
    with one.unplugged():
        if command.wait(120):
            test_pi_road.refused(command)
    command.communicate()
    assert test_pi_road.idle(one)


CAMPAIGNS = {
    "link faults": link_faults,
    "model files": model_files,
    "device": device,
    "integer ops": integer_ops,
    "usb": usb,
    "flash": flash,
    "pi": pi,
}


def soak(first_seed: int, minutes: float) -> dict[str, object]:
    """Runs every campaign for its share of the time; returns what is written down."""
    results: dict[str, object] = {}
    for name, prepare in CAMPAIGNS.items():
        if name == "pi" and (why := virtual_pi.lacking()):
            print(f"pi: not run: {why}")
            continue
        with tempfile.TemporaryDirectory() as folder, prepare(Path(folder)) as campaign:
            count = run(name, campaign, first_seed, time.monotonic() + 60 * minutes / len(CAMPAIGNS))
        print(f"{name}: {count} seeds from {first_seed} on, none failed")
        results[name] = {"first_seed": first_seed, "seeds": count, "failed": 0}
    return results


def run(name: str, campaign: Campaign, first_seed: int, until: float) -> int:
    """How many seeds passed until the time was up; a failure is raised, its seed printed."""
    count = 0
    while time.monotonic() < until:
        try:
            campaign(first_seed + count)
        except BaseException:
            print(f"{name}: seed {first_seed + count} fails", file=sys.stderr)
            raise
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--minutes", type=float, default=15.0)
    arguments = parser.parse_args()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=RESULT.parent)
    campaigns = soak(arguments.seed, arguments.minutes)
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    temporary = RESULT.with_suffix(".tmp")
    written = {"commit": head.stdout.strip(), "date": when, "campaigns": campaigns}
    temporary.write_text(json.dumps(written, indent=1) + "\n")
    os.replace(temporary, RESULT)


if __name__ == "__main__":
    main()
