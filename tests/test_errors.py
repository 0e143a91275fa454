"""Every code of a refusal is documented, and every documented code exists."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("omni", "encoders", "processors")
CAUSES, REMEDIES = (ROOT / "docs" / "errors.md").read_text("utf-8").split("\n## What to do\n")
DOCUMENTED = set(re.findall(r"^\| `([a-z0-9_]+)` \|", CAUSES, re.MULTILINE))
RAISERS = {"InputError", "CheckpointError", "Refusal"}


def codes() -> dict[str, str]:
    """Patterns of the codes in the packages' sources -> where each stands."""
    patterns = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or getattr(node.func, "id", None) not in RAISERS:
                    continue
                values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                if not values and getattr(node.func, "id", None) in ("InputError", "Refusal"):
                    values = node.args[:1]
                for value in values:
                    for part in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                        if isinstance(part, ast.Constant):
                            patterns[re.escape(str(part.value))] = f"{path.relative_to(ROOT)}:{node.lineno}"
                        elif isinstance(part, ast.JoinedStr):
                            texts = (
                                re.escape(str(v.value)) if isinstance(v, ast.Constant) else "[a-z0-9_]+"
                                for v in part.values
                            )
                            patterns["".join(texts)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return patterns


def test_every_code_is_documented():
    missing = {
        pattern: place for pattern, place in codes().items() if not any(re.fullmatch(pattern, c) for c in DOCUMENTED)
    }
    assert missing == {}


def test_every_documented_code_exists():
    source = "\n".join(p.read_text("utf-8") for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
    patterns = codes()
    absent = {
        code
        for code in DOCUMENTED
        if f'"{code}"' not in source and not any(re.fullmatch(pattern, code) for pattern in patterns)
    }
    assert DOCUMENTED and absent == set()


def test_every_code_has_a_remedy():
    patterns = [
        code for row in re.findall(r"^\| (`.*?) \| ", REMEDIES, re.MULTILINE) for code in re.findall("`(.*?)`", row)
    ]
    assert {code for code in DOCUMENTED if not any(fnmatch(code, pattern) for pattern in patterns)} == set()
    assert [pattern for pattern in patterns if not any(fnmatch(code, pattern) for code in DOCUMENTED)] == []
