"""Modules may still be imported by the names that they had in 0.1, with a warning; and nothing warns of itself."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from encoders import _moved as of_encoders
from omni import _moved as of_omni
from omni import training
from processors import _moved as of_processors

ROOT = Path(__file__).parents[1]
MOVED = of_processors.MOVED | of_encoders.MOVED | of_omni.MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_imports_the_same_module_and_warns_once(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now called {MOVED[old]}") as caught:
        module = importlib.import_module(old)
        assert importlib.import_module(old) is module
    assert len(caught) == 1
    assert module is importlib.import_module(MOVED[old]) and module.__name__ == module.__spec__.name == MOVED[old]


@pytest.mark.parametrize("old", MOVED)
def test_no_file_stands_in_an_old_names_place(old):
    path = ROOT.joinpath(*old.split("."))
    assert not path.with_suffix(".py").exists() and not path.exists()


def test_a_name_from_an_old_module_is_the_same_object():
    code = "from encoders.layout import vision_calls as old; from encoders.buckets import vision_calls as new"
    result = run("-W", "default", "-c", f"{code}; print(old is new)")
    assert result.stdout == "True\n"
    assert "<string>:1: DeprecationWarning: encoders.layout is now called encoders.buckets" in result.stderr


@pytest.mark.parametrize("package", ["processors", "encoders", "omni", "omni.loading", "omni.cli"])
def test_no_package_warns_of_itself(package):
    assert run("-W", "error::DeprecationWarning", "-c", f"import {package}").stderr == ""


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'omni\.nothing'"):
        importlib.import_module("omni.nothing")


@pytest.mark.parametrize("old, new", training._RENAMED.items())
def test_classes_of_training_keep_their_old_names(old, new):
    with pytest.warns(DeprecationWarning, match=f"omni.training.{old} is now called {new}"):
        assert getattr(training, old) is getattr(training, new)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
