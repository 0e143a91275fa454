"""Whether the types of all public names are complete, as pyright sees them from outside: make types.

python -m tests.types.complete PYTHON"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from docs.hooks import reference

ROOT = Path(__file__).parents[2]
PACKAGES = ("processors", "encoders", "omni")


def public() -> dict[str, str]:
    """Where each public name is defined -> the name that users know."""
    found = {}
    for name in reference.documented():
        value = reference.resolve(name)
        module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        found[f"{module}.{qualified}" if module and qualified else name] = name
    return found


def symbols(package: str, python: str) -> list[dict[str, Any]]:
    """Every symbol of a package, as pyright judges its type."""
    # pyright finds packages through the first python of PATH when it verifies types, whatever it is told.
    path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pyright", "--pythonpath", python, "--verifytypes", package, "--ignoreexternal"]
    result = subprocess.run([*command, "--outputjson"], capture_output=True, text=True, cwd=ROOT, env=environment)
    try:
        return json.loads(result.stdout)["typeCompleteness"]["symbols"]
    except (ValueError, KeyError):
        raise SystemExit(f"pyright could not verify {package}: {result.stdout[-500:]} {result.stderr[-500:]}") from None


def incomplete(names: dict[str, str], found: list[dict[str, Any]]) -> list[str]:
    """What is wrong with public names and with the public attributes and methods of public classes."""
    wrong = []
    for symbol in found:
        name = symbol["name"]
        owner = next((one for one in names if name == one or name.startswith(f"{one}.")), None)
        if owner is None or any(part.startswith("_") for part in name.removeprefix(owner).split(".")):
            continue
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]:
            reasons = "; ".join(" ".join(one["message"].split()) for one in symbol["diagnostics"][:2])
            wrong.append(
                f"{names[owner]}{name.removeprefix(owner)}: {reasons or 'the type of something in it is unknown'}"
            )
    return wrong


def main(python: str) -> None:
    names = public()
    wrong = [line for package in PACKAGES for line in incomplete(names, symbols(package, python))]
    for line in wrong:
        print(line)
    print(f"{len(names)} public names, {len(wrong)} symbols of theirs with types that are not complete")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else sys.executable)
