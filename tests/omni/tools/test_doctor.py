"""The doctor names what is missing and how to get it, and fails for what is needed alone."""

import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest

from omni.errors import InputError
from omni.tools import doctor

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """As if the project were installed as it is now, with everything that it needs, and nothing for accelerators."""
    extras = PROJECT["optional-dependencies"]
    needed = [f'{one}; extra == "{name}"' for name, several in extras.items() for one in several]
    versions = {}
    requires, version = importlib.metadata.requires, importlib.metadata.version

    def version_of(name):
        if name.startswith(("jax-cuda", "libtpu")) or versions.get(name, "") is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or version(name)

    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [*PROJECT["dependencies"], *needed] if name == doctor.DISTRIBUTION else requires(name),
    )
    monkeypatch.setattr(importlib.metadata, "version", version_of)
    return versions


def finding(diagnosis, name):
    return next(one for one in diagnosis.findings if one.name == name)


def test_everything_that_is_needed_is_here():
    found = doctor.diagnose()
    assert found.is_good
    assert [one.section for one in found.findings if one.name in ("jax", "cpu 0", "FFmpeg", "hub")] == [
        "versions",
        "devices",
        "decoders",
        "caches",
    ]
    extras = {one.name for one in found.findings if one.section == "extras"}
    assert {"video", "server", "draw", "cuda", "tpu"} <= extras and "test" not in extras and "all" not in extras


def test_what_is_missing_is_named_with_its_remedy(installed):
    installed["soxr"], installed["pillow"], installed["av"] = None, "1.0", None
    found = doctor.diagnose()
    assert not found.is_good
    assert finding(found, "soxr").state == "missing" and "pip install 'soxr" in finding(found, "soxr").remedy
    assert finding(found, "pillow").state == "wrong" and "1.0, needed >=13" in finding(found, "pillow").text
    assert finding(found, "cuda").remedy == 'pip install "omni-jax[cuda]"'


def test_an_extra_is_needed_where_it_is_named(installed):
    installed["matplotlib"] = None
    assert doctor.diagnose().is_good and doctor.diagnose(["video"]).is_good
    found = doctor.diagnose(["server"])  # which draws
    assert not found.is_good and finding(found, "server").state == "missing"
    assert "matplotlib" in finding(found, "server").text
    with pytest.raises(InputError, match="no extra sing") as refused:
        doctor.diagnose(["sing"])
    assert refused.value.code == "bad_option"


def test_caches_are_measured(monkeypatch, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"0" * 3000)
    (tmp_path / "b").symlink_to(tmp_path / "inner" / "a")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert finding(doctor.diagnose(), "hub").text == f"2.9 KiB in 1 files, {tmp_path}"


def test_a_source_that_is_not_installed_is_no_fault(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    found = doctor.diagnose()
    assert found.is_good and finding(found, doctor.DISTRIBUTION).state == "note"


def test_the_command_prints_lines_or_json(monkeypatch, capsys, installed):
    from omni.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", "doctor", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        return leaving.value.code or 0, capsys.readouterr().out

    code, out = run()
    assert code == 0 and "everything that is needed is here" in out and '"omni-jax[tpu]"' in out
    installed["soxr"] = None
    code, out = run("--json")
    told = json.loads(out)
    assert code == 1 and told["good"] is False and told["findings"][0]["name"] == "omni"
