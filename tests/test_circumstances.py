"""What a computer tells is in the record, and a run that was slowed down is invalid: by rule, and for real.

For real the agent runs in its child process and takes a folder for its root: the vcgencmd there is a simulated
instrument, which the test has say something else while the model runs.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import machines
import pytest
from click.testing import CliRunner, Result
from deployed import lay_out
from machines import PIS, pose
from sshd import sshd

from edge import cli
from edge.decide import report
from edge.make import convert
from edge.measure import bench as benches
from edge.measure import circumstances
from edge.measure import record as records
from edge.measure.circumstances import ADVICE, Invalid, Machine, Moment, judge
from edge.run.agent import machine
from edge.run.ssh import PROGRAM
from edge.run.target import open_target
from firmware_tools.content import record_digest
from firmware_tools.errors import UserError
from tests import tiny

CALM = Moment(
    governors=("ondemand",), clock_limit_hz=1_800_000_000, clock_hz=600_000_000, temperature_c=50.0,
    throttled="0x0", throttled_now=(), throttled_since_boot=(),
)  # fmt: skip
PI = Machine(model="Raspberry Pi 4 Model B Rev 1.4", temperature_limit_c=85.0)


def codes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = judge(PI, dataclasses.replace(CALM, **before), dataclasses.replace(CALM, **after))
    assert all(reason.code in ADVICE and reason.sentence for reason in found)
    return [reason.code for reason in found]


HEAT, WEAK = "soft-temperature-limit", "under-voltage"
STEADY = {"governors": ("performance",)}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, {"clock_hz": 1_800_000_000, "temperature_c": 71.0}, []),
        ({"throttled_since_boot": (WEAK,)}, {"throttled_since_boot": (WEAK,)}, []),
        ({}, {"throttled_since_boot": (HEAT,)}, ["throttling-changed"]),
        ({}, {"throttled_now": (HEAT,), "throttled_since_boot": (HEAT,)}, ["throttling-changed"]),
        ({"throttled_since_boot": (HEAT,)}, {}, ["throttling-changed"]),
        ({}, {"throttled_since_boot": (WEAK,)}, ["under-voltage"]),
        ({}, {"throttled_now": (WEAK, "throttled"), "throttled_since_boot": (WEAK,)},
         ["under-voltage", "throttling-changed"]),
        ({"throttled_now": (WEAK,), "throttled_since_boot": (WEAK,)},
         {"throttled_now": (WEAK,), "throttled_since_boot": (WEAK,)}, ["under-voltage"]),
        ({"throttled_now": ("frequency-capped",)}, {"throttled_now": ("frequency-capped",)}, ["throttled"]),
        ({"throttled_now": (HEAT,)}, {}, ["throttled", "throttling-changed"]),
        ({}, {"throttled": None, "throttled_now": None, "throttled_since_boot": None}, ["throttling-unknown"]),
        ({}, {"governors": ("powersave",)}, ["governor-changed"]),
        ({}, {"clock_limit_hz": 1_500_000_000}, ["clock-changed"]),
        ({"clock_measured_hz": 1_800_000_000}, {"clock_measured_hz": 600_000_000}, []),
        ({**STEADY, "clock_measured_hz": 1_800_457_088}, {**STEADY, "clock_measured_hz": 1_800_404_352}, []),
        ({**STEADY, "clock_measured_hz": 1_800_457_088}, {**STEADY, "clock_measured_hz": 1_000_000_000},
         ["clock-changed"]),
        ({}, {"temperature_c": 85.0}, ["too-hot"]),
        ({"temperature_c": 86.1}, {}, ["too-hot"]),
    ],
)  # fmt: skip
def test_what_makes_a_run_invalid(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    assert codes(before, after) == expected


def test_who_tells_nothing_is_not_judged() -> None:
    assert judge(Machine(), Moment(), Moment()) == () and judge(None, None, None) == ()


def test_what_is_told_is_checked() -> None:
    told = {
        "model": "Pi", "cores": -1, "memory_bytes": 10**400, "clock_max_hz": "fast", "temperature_c": -12.5,
        "temperatures_c": {"cpu": "hot"}, "throttled_now": "no list", "rails": [{"name": "A", "v": 1.0}, {}],
        "load_1min": float("nan"), "swap_bytes": 0, "governors": ["ondemand"], "unheard_of": [[]],
    }  # fmt: skip
    assert circumstances.machine(told) == Machine(model="Pi")
    assert circumstances.moment(told) == Moment(temperature_c=-12.5, swap_bytes=0, governors=("ondemand",))


# ------------------------------------------------------------------------------------------------------- for real


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("circumstances") / "tiny.tflite"
    convert.save(convert.convert(tiny.checkpoint()), path)
    return path


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the agents of this test take for the root of their machine."""
    root = pose(tmp_path / "pi", PIS["5"])
    machines.put(
        tmp_path,
        "site/sitecustomize.py",
        f"from pathlib import Path\nfrom edge.run.agent import machine\nmachine.ROOT = Path({str(root)!r})\n"
        "machine.platform.machine = lambda: 'aarch64'\n",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return root


def edge(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words], catch_exceptions=False)


def test_a_bench_keeps_what_the_computer_told(pi: Path, model: Path, tmp_path: Path) -> None:
    result = edge("bench", model, "--repeats", 2, "--tokens", 2, "-o", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    run = records.read(tmp_path / "run.json")
    assert run.schema == "edge.run/1.3" and run.invalid == () and run.machine and run.before and run.after
    assert (run.machine.model, run.machine.revision) == (PIS["5"].model, "d04170")
    assert (run.machine.cpu, run.machine.supply_a) == ("Cortex-A76", 5.0)
    assert run.after.throttled == "0x0" and run.after.throttled_now == ()
    assert run.before.rails_w == pytest.approx(2.282, abs=1e-3)
    assert run.before.rails and run.before.rails[7].name == "VDD_CORE"
    assert records.from_json(json.loads(json.dumps(records.to_json(run)))) == run


def test_throttling_meanwhile_is_an_error_after_the_record(
    pi: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Pi grows hot between the two looks at it."""
    step = benches._decode

    def warmer(*what: Any) -> list[float]:
        machines.answers(pi, get_throttled="throttled=0x80008\n")
        return step(*what)

    monkeypatch.setattr(benches, "_decode", warmer)
    path = tmp_path / "run.json"
    result = edge("bench", model, "--repeats", 2, "-o", path)
    assert result.exit_code == 1
    assert "edge: the run is invalid: what slows the computer down changed meanwhile: soft-temp" in result.output
    assert "hint: let it cool" in result.output and " ms" not in result.output and "Traceback" not in result.output
    run = records.read(path)
    assert [reason.code for reason in run.invalid] == ["throttling-changed"]
    assert run.decode.repeats, "what was measured is kept"

    shown = edge("report", path)
    assert shown.exit_code == 0 and "Invalid" in shown.output and " ms" not in shown.output
    data = json.loads(edge("report", path, "--json").output)
    assert data["seconds"] == [] and data["invalid"][0]["invalid"][0]["code"] == "throttling-changed"


def test_weak_supply_before_is_told_in_json_too(pi: Path, model: Path) -> None:
    machines.answers(pi, get_throttled="throttled=0x50005\n")
    result = edge("bench", model, "--repeats", 1, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert [reason["code"] for reason in data["invalid"]] == ["throttled", "under-voltage"]


def test_what_was_before_leaves_a_doubt(pi: Path, model: Path, tmp_path: Path) -> None:
    machines.answers(pi, get_throttled="throttled=0x50000\n")
    result = edge("bench", model, "--repeats", 1, "-o", tmp_path / "run.json")
    assert result.exit_code == 0 and " ms" in result.output
    assert "host had been slowed down at some time before (under-voltage, throttled), so that" in result.output
    report_file = tmp_path / "report.md"
    assert edge("report", tmp_path / "run.json", "-o", report_file).output == result.output
    assert "a restart makes the flags fresh." in report_file.read_text()


def test_accuracy_does_not_depend_on_the_clock(pi: Path, model: Path, tmp_path: Path) -> None:
    machines.answers(pi, get_throttled="throttled=0x80008\n")
    (tmp_path / "text.txt").write_text("tin tin tin tin")
    result = edge("eval", model, "--text", tmp_path / "text.txt", "-o", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    run = records.read(tmp_path / "run.json")
    assert run.invalid == () and run.accuracy and run.before and run.before.throttled == "0x80008"


def test_an_emulated_computer_has_no_time(pi: Path, model: Path, tmp_path: Path) -> None:
    """bench refuses, and everything else works and counts nothing."""
    machines.put(pi, "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n")
    result = edge("bench", model)
    assert result.exit_code == 1 and "host counts nothing: an emulated computer has no time" in result.output
    assert edge("run", model, "tin", "--tokens", 2).exit_code == 0
    (tmp_path / "text.txt").write_text("tin tin tin tin")
    data = json.loads(edge("eval", model, "--text", tmp_path / "text.txt", "--json").output)
    assert data["emulated"] is True and data["machine"]["emulated_because"].startswith("its programs are for arm")
    assert "EMULATED" in edge("eval", model, "--text", tmp_path / "text.txt").output
    with open_target("host", model) as running:
        assert running.info.emulated and running.link.prefill([3, 4]) is None and running.link.forward(3, 2) is None
        with pytest.raises(UserError, match="no time"):
            benches.bench(running, repeats=1)


@pytest.mark.parametrize("answer", ["[1]", "'x' * 5000", "{'model': 7, 'rails': 'all', 'cores': float('nan')}"])
def test_a_computer_that_tells_nonsense(
    answer: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error, or a record without what makes no sense."""
    code = f"from edge.run.agent import machine\nmachine.facts = lambda: {answer}\n"
    machines.put(tmp_path, "sitecustomize.py", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = edge("bench", model, "--repeats", 1, "--tokens", 1, "--json")
    if answer.startswith("{"):
        assert result.exit_code == 0 and json.loads(result.stdout)["machine"]["cores"] is None
    else:
        assert result.exit_code == 1 and result.output.startswith("edge: ") and "Traceback" not in result.output


def test_this_machine_is_in_the_record(model: Path) -> None:
    with open_target("host", model) as running:
        run = benches.bench(running, repeats=1, tokens=1)
        told = running.link.facts()
    assert run.machine == circumstances.machine(machine.facts()) == circumstances.machine(told)
    assert run.before is not None and run.after is not None


# ------------------------------------------------------------------------------------------------------- reports


def runs(model: Path) -> list[records.Record]:
    with open_target("host", model) as running:
        good = benches.bench(running, repeats=1, tokens=1)
    pi = dataclasses.replace(good, target="ssh:pi@pi.local", machine=PI)
    return [pi, dataclasses.replace(pi, invalid=(Invalid("too-hot", "it | was\x1b[31m <b>hot</b>"),))]


def test_reports_never_show_a_number_of_an_invalid_run(model: Path) -> None:
    good, bad = runs(model)
    table, wrong = report._all([good, bad])
    assert table[1] == report.tables([good])[0][1] and len(table[1]) == 2
    assert wrong[1][0] == ["model", "target", "computer", "why"]
    assert wrong[1][1][1:] == ["ssh:pi@pi.local", PI.model, "it | was[31m <b>hot</b>"]
    assert "\\| was" in report.markdown([good, bad]) and "&lt;b&gt;" in report.markdown([good, bad])
    assert " ms" in report.text([good]) and " ms" not in report.text([bad])
    assert "computer" in report.text([good]) and PI.model in report.text([good])


def test_records_of_before_are_read(model: Path) -> None:
    data = records.to_json(runs(model)[0])
    for key in ("machine", "before", "after", "invalid"):
        del data[key]
    data["schema"] = "edge.run/1.1"
    data["sha256"] = record_digest(data)
    found = records.from_json(data)
    assert found.machine is None and found.invalid == ()


# ------------------------------------------------------------------------------------------- on another computer


@pytest.mark.system
def test_a_bench_over_ssh_has_the_other_computers_facts(
    tool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    """The keeper answers before and after; kernels, threads and runtime are those of the agent there."""
    tool("ssh")
    with sshd(tmp_path / "far") as far:
        lay_out(far.home, model)
        monkeypatch.setenv(PROGRAM, far.ssh)
        result = edge("bench", model, "--on", far.target, "--repeats", 2, "-o", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    run = records.read(tmp_path / "run.json")
    assert run.machine == circumstances.machine(machine.facts()) and run.before and run.after
    assert run.target == far.target and run.clock == "seconds" and not run.emulated
    assert {"runtime", "kernels", "threads"} <= set(run.tools) and run.tools["kernels"] == "xnnpack"
    assert run.board == (run.machine.model or f"{run.machine.architecture} computer")
