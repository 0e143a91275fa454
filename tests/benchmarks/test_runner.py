"""What the runner of benchmarks measures and keeps, on stages that bring their own times."""

import json
import sys

import pytest

from benchmarks import run as runner
from benchmarks.floor import best, floor_seconds
from benchmarks.page import page
from benchmarks.run import Run, chosen, run_all
from benchmarks.stages import stages as all_stages
from benchmarks.stages.stage import Cost, Product, Stage
from tests.benchmarks.arithmetic import stages

ABOUT = {"processor": "a processor"}
CEILINGS = {"float32": 1e9, "bfloat16": 2e9, "read": 4e9, "copy": 2e9}


class RunWithoutLibraries(Run):
    """With figures of a machine that neither JAX nor torch is needed for."""

    def measure_machine(self):
        self.ceilings = {"ours": CEILINGS, "reference": {**CEILINGS, "read": 8e9}}
        return {"versions": {"ours": {"python": "3"}}, "ceilings": self.ceilings, "best": best(self.ceilings)}

    def _rate(self, stage, product):
        return 5e8


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All stages run by processes of their own: record, what was written, and the folder."""
    folder = tmp_path_factory.mktemp("run")
    run = RunWithoutLibraries("tests.benchmarks.arithmetic", False, sys.executable, folder)
    path = folder / "out" / "results.json"
    run_all(run, stages(False), path, None, ABOUT)
    return json.loads(path.read_text()), path, run


def test_medians_ratios_and_shares_are_those_of_the_counted_rounds(results):
    numbers = results[0]["stages"]["numbers"]
    assert numbers["sides"]["ours"]["times"] == [2.0, 1.0, 2.0]
    assert numbers["sides"]["ours"]["cold"] == numbers["sides"]["ours"]["first"] == 1.0
    assert (numbers["sides"]["ours"]["median"], numbers["sides"]["ours"]["minimum"]) == (2.0, 1.0)
    assert numbers["ratio"] == {"reference": 3.0}
    assert numbers["items_per_second"] == 5.0
    flops = 2 * 4 * 8 * 16 * 2 * 3
    assert numbers["flops_per_second"] == flops / 2
    assert numbers["share_of_machine"] == flops / 2 / 1e9
    assert numbers["floor"] == pytest.approx(flops / 5e8 + 64 / 2e9)
    assert numbers["share_of_floor"] == pytest.approx(numbers["floor"] / 2)
    assert numbers["difference"] == {"reference": 0.0}


def test_a_side_that_fails_leaves_the_others(results):
    broken = results[0]["stages"]["broken"]
    assert broken["sides"]["reference"]["error"] == "ValueError: it cannot be built"
    assert len(broken["sides"]["ours"]["times"]) == 1
    assert broken["ratio"] == {}


def test_what_cannot_be_left_out_is_the_floor(results):
    bare = results[0]["stages"]["bare"]
    assert 0 < bare["floor"] < 1
    assert bare["share_of_floor"] == bare["floor"] / bare["sides"]["ours"]["median"]
    assert bare["sides"]["reference"]["peak"] > 1 << 20


def test_a_run_goes_on_where_it_was_cut_short(results, monkeypatch):
    record, path, run = results
    assert record["complete"]
    began = []
    monkeypatch.setattr(Run, "run", lambda self, stage: began.append(stage.name) or record["stages"][stage.name])
    cut = {**record, "complete": False, "stages": {"numbers": record["stages"]["numbers"]}}
    path.write_text(json.dumps(cut))
    run_all(run, stages(False), path, None, ABOUT, seconds=-1)
    assert began == [] and not json.loads(path.read_text())["complete"]
    after = run_all(run, stages(False), path, None, ABOUT)
    assert began == ["broken", "bare"]
    assert list(after["stages"]) == ["numbers", "broken", "bare"] and after["complete"]
    run_all(run, stages(False), path, "second|num", ABOUT)
    assert began[2:] == ["numbers", "bare"]
    run_all(run, stages(False), path, None, ABOUT)
    assert began[4:] == ["numbers", "broken", "bare"]
    # Results of small sizes are none of real ones.
    small = RunWithoutLibraries(run.module, True, None, run.folder)
    run_all(small, stages(True), path, "num", ABOUT)
    assert list(json.loads(path.read_text())["stages"]) == ["numbers"]


def test_the_page_tells_of_every_stage(results):
    record = results[0]
    text = page([record])
    for name in record["stages"]:
        assert f"\n| {name} | " in text
    assert "| numbers | 2.00 s | 6.00 s | 3.00 | 5 calls |" in text
    assert "Broken, reference: ValueError: it cannot be built." in text
    assert "Not all stages" not in text and "Not all stages" in page([{**record, "complete": False}])


def test_a_step_is_bound_by_reading_or_by_multiplying():
    def stage(read, rows):
        return Stage("", "", "float32", {}, cost=Cost((Product(rows, 1000, 1000),), read=read))

    assert floor_seconds(stage(4e9, 1), CEILINGS, lambda _: 1.0) == 1.0
    assert floor_seconds(stage(4e6, 1000), CEILINGS, lambda _: 1.0) == 2.0


def test_stages_have_names_of_their_own_and_can_be_chosen():
    real, quick = all_stages(), all_stages(True)
    for found in (real, quick):
        assert len({stage.name for stage in found}) == len(found)
    assert {stage.group for stage in quick} == {stage.group for stage in real}
    assert {stage.name for stage in chosen(real, "mel|vision tower, 384")} == {
        "mel, 10 s",
        "mel, 30 s",
        "mel, 10 min",
        "vision tower, 384 x 384, float32",
        "vision tower, 384 x 384, bfloat16",
    }


def test_without_a_reference_ours_is_run_and_said_so(tmp_path, monkeypatch, capsys):
    command = ["run", "--quick", "--only", "images|mel", "--reference-python", str(tmp_path / "none")]
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(path)])
    runner.main()
    assert "ours alone" in capsys.readouterr().out
    record = json.loads(path.read_text())
    assert record["quick"] and not record["complete"]
    assert all(list(stage["sides"]) == ["ours"] for stage in record["stages"].values())
