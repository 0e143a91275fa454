"""How the house is built: which package may import what, and what each must carry."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("omni", "encoders", "processors")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "processors": {"jax", "jaxlib", "flax", "encoders", "omni"},
    "encoders": {"processors", "omni"},
    "omni": set(),
}
NEVER = {"torch", "torchvision", "torchaudio", "transformers", "tensorflow"}
OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "memmap", "fromfile"}


def modules_of(package: str) -> list[Path]:
    return [path for path in MODULES if path.relative_to(ROOT).parts[0] == package]


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """The top-level name and the full name of everything a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and ast.unparse(node) == "from os import environ":
            continue  # variables are no files
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno} imports by a relative name"
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield name.split(".")[0], name


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(package)
        for top, name in imported(path)
        if top in FORBIDDEN[package] | NEVER
    }
    assert not found


def test_encoders_open_no_files():
    found = set()
    for path in modules_of("encoders"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                if name in OPENERS:
                    found.add(f"{path.relative_to(ROOT)}:{node.lineno} calls {name}")
        found |= {
            f"{path.relative_to(ROOT)} imports {name}" for top, name in imported(path) if top in ("os", "pathlib")
        }
    assert not found


def test_one_mechanism_a_file():
    longest = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: lines for path, lines in longest.items() if lines > 450} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_published(package):
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", ["processors", "omni", "omni.cli"])
def test_jax_is_not_imported_before_it_is_needed(package):
    code = f"import sys, {package}; print(sorted({{'jax', 'flax', 'torch', 'encoders'}} & set(sys.modules)))"
    assert run(code).stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    run("import omni; assert [name for name in omni.__all__ if getattr(omni, name) is None] == []")


# --- the guard against other packages of the same names ---------------------------------------------------------------


def run(code: str, *path: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with folders put before the others on its path, and no current folder (`-P`)."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env)
    assert result.returncode == 0 or not check, result.stderr
    return result


def intrude(folder: Path, package: str) -> Path:
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("VisionEncoder = ImageProcessor = None\n")
    return folder


def own(folder: Path, package: str, distribution: str) -> None:
    """Makes the folder the installed files of a distribution."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(package + "\n")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n")


@pytest.mark.parametrize("package", ["encoders", "processors"])
def test_guard_names_an_intruding_folder(tmp_path, package):
    result = run("import omni", intrude(tmp_path, package), check=False)
    line = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert line.startswith(f"ImportError: omni cannot start: the package '{package}'") and str(tmp_path) in line


@pytest.mark.parametrize("package", ["encoders", "processors"])
def test_guard_names_an_intruding_distribution(tmp_path, package):
    own(intrude(tmp_path, package), package, "other-wheel")
    line = run("import omni", tmp_path, check=False).stderr.strip().splitlines()[-1]
    assert line.startswith("ImportError: omni cannot start") and "from the distribution other-wheel." in line


@pytest.mark.parametrize("package", ["encoders", "processors"])
def test_guard_sees_an_intruder_that_is_imported_already(tmp_path, package):
    result = run(f"import {package}\nimport omni", intrude(tmp_path, package), check=False)
    assert "ImportError: omni cannot start" in result.stderr


@pytest.mark.parametrize("package", ["encoders", "processors"])
def test_guard_names_a_missing_package(tmp_path, package):
    hide = (
        f"import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == {package!r} else find(n)"
    )
    result = run(f"{hide}\nimport omni", check=False)
    assert f"omni cannot start: its package '{package}' is missing" in result.stderr


def test_guard_lets_our_own_packages_pass():
    run("import omni, encoders, processors; from omni._guard import check; check()")
