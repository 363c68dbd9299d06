"""What a virtual Raspberry Pi tells of itself, all the way: vcgencmd there, the keeper, ssh, the record.

The vcgencmd is a simulated instrument; that the Pi is emulated is the truth, and must be recognized.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import machines
import pytest
import tiny
from machines import PIS
from virtual_pi import VirtualPi, switched_on
from virtual_pi_userland import PI64

from edge.make.convert import convert, save

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("virtual Pis")]  # one builds them


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny.tflite"
    save(convert(tiny.checkpoint(), "int8"), file)
    return file


@pytest.fixture(scope="module")
def pi(model: Path) -> Iterator[VirtualPi]:
    with switched_on(PI64) as one:
        deployed = one.edge("deploy", model, "--to", one.target)
        assert deployed.returncode == 0, deployed.stderr
        yield one


def test_what_it_tells_is_in_the_record(pi: VirtualPi, model: Path, tmp_path: Path) -> None:
    root = pi.path("/")
    machines.program(root, machines.PRINTS)
    machines.answers(root, **{**PIS["5"].vcgencmd, "get_throttled": "throttled=0x80008\n"})
    (tmp_path / "text.txt").write_text("tin tin tin")
    done = pi.edge("eval", model, "--text", tmp_path / "text.txt", "--on", pi.target, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    told, before = run["machine"], run["before"]
    assert (told["architecture"], told["userland_bits"], told["cpu"]) == ("aarch64", 64, "Cortex-A72")
    assert told["system"] == "Debian GNU/Linux 12 (bookworm)" and told["temperature_limit_c"] == 85
    assert (before["throttled"], before["throttled_now"]) == ("0x80008", ["soft-temperature-limit"])
    assert before["temperature_c"] == 48.3 and before["clock_measured_hz"] == 2400030976
    assert before["rails_w"] == pytest.approx(2.282, abs=1e-3)
    assert run["emulated"] is True and told["emulated_because"]
    assert {"runtime", "kernels", "threads"} <= set(run["tools"])


def test_it_has_no_time(pi: VirtualPi, model: Path) -> None:
    done = pi.edge("bench", model, "--on", pi.target)
    assert done.returncode == 1
    assert done.stderr.startswith(f"edge: {pi.target} counts nothing: an emulated computer has no time\nhint: ")
