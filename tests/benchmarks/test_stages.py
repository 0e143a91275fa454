"""The stages themselves at small sizes: ours runs, and gives what can be compared."""

import json
import sys

import numpy as np
import pytest

from benchmarks import accelerator
from benchmarks import run as runner
from benchmarks.checkpoints import write
from benchmarks.stages import stages
from benchmarks.stages.text import config_of, matrices

GROUPS = ("images|mel|dense", "video|vision|audio|4 layers|one cycle|gated", "start|transcription")
DEVICE = ("audio", "vision|thinker of 30B-A3B")


def _run(main, names, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    command = ["run", "--quick", "--only", names, "--reference-python", "none", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    main()
    return json.loads(path.read_text())


@pytest.mark.parametrize("names", GROUPS)
def test_every_stage_runs_at_small_size(names, tmp_path, monkeypatch):
    record = _run(runner.main, names, tmp_path, monkeypatch)
    wanted = {stage.name for stage in runner.chosen(stages(True), names)}
    assert record["stages"].keys() == wanted and wanted
    for name, stage in record["stages"].items():
        ours = stage["sides"]["ours"]
        # A transcription is told as a share of the audio's time.
        assert stage["floor"] is None if name.startswith("transcription") else stage["floor"] > 0
        assert "error" not in ours, name
        # A token of so small a decoder takes less than what the prompt's time differs by.
        assert np.isfinite(ours["minimum"]) and ours["peak"] > 1 << 20
    assert record["machine"]["ceilings"]["ours"].keys() == {"float32", "bfloat16", "read", "copy"}


@pytest.mark.parametrize("names", DEVICE)
def test_the_stages_of_an_accelerator_run_on_the_cpu(names, tmp_path, monkeypatch):
    record = _run(accelerator.main, names, tmp_path, monkeypatch)
    assert record["stages"].keys() == {stage.name for stage in runner.chosen(accelerator.stages(True), names)}
    for name, stage in record["stages"].items():
        assert "error" not in stage["sides"]["ours"], name
        assert np.isfinite(stage["share_of_machine"])


def test_real_sizes_need_an_accelerator(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accelerator"])
    with pytest.raises(SystemExit):
        accelerator.main()
    assert "no accelerator here" in capsys.readouterr().err


def test_the_cost_of_a_layer_counts_the_weights_that_are_written(tmp_path):
    config = config_of("dense 0.6B", True)
    write(tmp_path, config, "float32")
    with (tmp_path / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    layer = [entry["shape"] for name, entry in header.items() if ".layers.0." in name and len(entry["shape"]) == 2]
    assert sorted(map(tuple, layer)) == sorted((n, k) for k, n in matrices(config, "full"))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size - max(entry["data_offsets"][1] for entry in header.values()) < 1 << 16
    assert all(np.prod(entry["shape"]) * 4 == np.diff(entry["data_offsets"]) for entry in header.values())
