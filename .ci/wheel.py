"""What a wheel of this project has to hold, and what it must not.

python .ci/wheel.py dist/*.whl
"""

import sys
import zipfile
from collections.abc import Iterable
from email.parser import Parser

PACKAGES = ("omni", "encoders", "processors")
DEMO = ("model.safetensors", "config.json", "tokenizer.json")
# Bytes; the demo is most of it.
MOST_BYTES = 32 << 20


def problems(names: Iterable[str]) -> list[str]:
    """Return what is wrong with the files of a wheel, one sentence each."""
    files = [name for name in names if not name.endswith("/")]
    found = []
    roots = {name.split("/")[0] for name in files if ".dist-info/" not in name}
    for root in sorted(roots - set(PACKAGES)):
        found.append(f"{root} would be installed beside the three packages")
    for package in PACKAGES:
        if f"{package}/py.typed" not in files:
            found.append(f"{package}/py.typed is missing")
    for name in DEMO:
        if f"omni/assets/demo/{name}" not in files:
            found.append(f"the demo's {name} is missing")
    if not any(name.startswith("omni/server/static/") for name in files):
        found.append("the server's page is missing")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        found.append("the licence is missing")
    for name in files:
        if name.endswith((".pyc", ".orig", ".rej")) or "__pycache__" in name or "/tests/" in name:
            found.append(f"{name} does not belong into a wheel")
    return found


def main(path: str) -> None:
    with zipfile.ZipFile(path) as wheel:
        found = problems(wheel.namelist())
        metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        version = Parser().parsestr(wheel.read(metadata).decode("utf-8"))["Version"]
        size = sum(info.compress_size for info in wheel.infolist())
    if f"-{version}-" not in path:
        found.append(f"its metadata says {version}")
    if size > MOST_BYTES:
        found.append(f"it takes {size / 2**20:.1f} MiB, at most {MOST_BYTES >> 20} are allowed")
    for problem in found:
        print(f"{path}: {problem}", file=sys.stderr)
    if found:
        raise SystemExit(1)
    print(f"{path}: {version}, {size / 2**20:.1f} MiB, nothing missing and nothing too much")


if __name__ == "__main__":
    main(sys.argv[1])
