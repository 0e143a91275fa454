"""A wheel that lacks something, or brings something along, is not released."""

import importlib.util
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("release_wheel", ROOT / ".ci" / "wheel.py")
assert spec is not None and spec.loader is not None
wheel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(wheel)

INFO = "omni_jax-1.2.3.dist-info"
WHOLE = [
    *(f"{package}/py.typed" for package in wheel.PACKAGES),
    *(f"omni/assets/demo/{name}" for name in wheel.DEMO),
    "omni/server/static/index.html",
    f"{INFO}/METADATA",
    f"{INFO}/licenses/LICENSE",
]


def test_a_whole_wheel_has_no_problems():
    assert wheel.problems(WHOLE) == []


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.endswith("METADATA")])
def test_what_is_missing_is_named(name):
    assert len(wheel.problems([one for one in WHOLE if one != name])) == 1


@pytest.mark.parametrize(
    "name", ["tests/test_x.py", "omni/__pycache__/x.pyc", "omni/tests/x.py", "build/lib/omni/x.py"]
)
def test_what_is_too_much_is_named(name):
    assert len(wheel.problems([*WHOLE, name])) == 1


@pytest.mark.parametrize("version, code", [("1.2.3", None), ("1.2.4", 1)])
def test_a_wheel_is_called_after_its_version(tmp_path, capsys, version, code):
    path = tmp_path / "omni_jax-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in WHOLE:
            archive.writestr(name, f"Version: {version}\n" if name.endswith("METADATA") else "x")
    if code is None:
        wheel.main(str(path))
        assert "1.2.3" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit) as leaving:
        wheel.main(str(path))
    assert leaving.value.code == code and "says 1.2.4" in capsys.readouterr().err


def test_what_is_in_the_tree_is_whole():
    """All that a wheel has to hold is there to be put into one."""
    names = [f"{package}/py.typed" for package in wheel.PACKAGES] + [f"omni/assets/demo/{name}" for name in wheel.DEMO]
    assert all((ROOT / name).is_file() for name in [*names, "LICENSE"])
    assert any((ROOT / "omni/server/static").iterdir())
