"""Records on disk: a folder with manifest.json, a safetensors file a case and, of a user's conversations, their media.

The bytes depend on what was recorded alone, and a folder appears whole or not at all.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from omni.errors import InputError, shown
from omni.tools.verify.stages import STAGES, stage_of

FORMAT = "omni-verify-1"
MANIFEST = "manifest.json"
_CASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True, eq=False)
class Record:
    """What one model gave for some conversations.

    Attributes:
        directory: where it lies.
        maker: `omni` or `transformers`.
        model: what is told of the model, for people and for notes on what differs.
        data: `default`, or `own` where the conversations lie in the record.
        data_digest: sha256 of the default conversations; None of own ones.
        cases: names of the conversations, in order, with the sha256 of their files.
        skipped: names of conversations that could not be recorded, with the reason.
    """

    directory: Path
    maker: str
    model: Mapping[str, Any]
    data: str
    data_digest: str | None
    cases: Mapping[str, str]
    skipped: Mapping[str, str]

    def load(self, case: str) -> dict[str, np.ndarray]:
        """The arrays of a case.

        Raises:
            InputError: `bad_record`, the file is absent or is not the one that was written.
        """
        try:
            content = _file(self.directory, case).read_bytes()
        except OSError as error:
            raise InputError("bad_record", f"the file of case {case} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.cases[case]:
            raise InputError("bad_record", f"the file of case {case} is damaged: it is not the one that was written")
        try:
            arrays = load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError("bad_record", f"the file of case {case} is not a safetensors file") from error
        if any(stage_of(name) not in STAGES for name in arrays):
            raise InputError("bad_record", f"the file of case {case} holds stages that this version does not know")
        return arrays


def read_record(directory: Path) -> Record:
    """Opens a record.

    Raises:
        InputError: `no_record`, the folder holds none; `bad_record`, it is damaged or of another version.
    """
    try:
        raw = json.loads((directory / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("no_record", f"{directory} holds no record: make one with --record") from None
    except OSError as error:
        raise InputError("bad_record", f"{directory}: {MANIFEST} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError("bad_record", f"{directory}: {MANIFEST} is not JSON") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        version = raw.get("format") if isinstance(raw, dict) else None
        raise InputError("bad_record", f"{directory}: its format is {shown(version)}, this version reads {FORMAT}")
    wanted = {"maker": str, "model": dict, "data": str, "cases": dict, "skipped": dict}
    wrong = [name for name, kind in wanted.items() if not isinstance(raw.get(name), kind)]
    texts = [*raw.get("cases", {}).items()] if not wrong else []
    if wrong or not texts or not all(isinstance(v, str) and _CASE_NAME.fullmatch(k) for k, v in texts):
        raise InputError("bad_record", f"{directory}: {MANIFEST} lacks or garbles {', '.join(wrong) or 'cases'}")
    digest = raw.get("data_digest")
    if not isinstance(digest, str | None) or raw["data"] not in ("default", "own"):
        raise InputError("bad_record", f"{directory}: {MANIFEST} does not say what was asked")
    return Record(directory, raw["maker"], raw["model"], raw["data"], digest, raw["cases"], raw["skipped"])


class Writer:
    """A record in the making; `writing` opens one.

    Args:
        directory: where its files go.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._cases: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def add(self, case: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays of a case.

        Raises:
            InputError: `not_finite`, one holds NaN or an infinite number: no record can be compared with that.
        """
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError("not_finite", f"case {case}: {name} holds NaN or infinite numbers")
        content = save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
        _file(self._directory, case).write_bytes(content)
        self._cases[case] = hashlib.sha256(content).hexdigest()

    def finish(self, *, maker: str, model: Mapping[str, Any], data_digest: str | None) -> None:
        """Writes the manifest."""
        if not self._cases:
            raise InputError("nothing_to_record", "none of the conversations could be recorded")
        content = {
            "format": FORMAT,
            "maker": maker,
            "model": model,
            "data": "own" if data_digest is None else "default",
            "data_digest": data_digest,
            "cases": self._cases,
            "skipped": self.skipped,
        }
        (self._directory / MANIFEST).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def keep_conversations(self, conversations: Sequence[Any]) -> None:
        """Writes a user's conversations, and their media beside them: the record can then be checked elsewhere."""
        lines = []
        for i, messages in enumerate(conversations):
            kept = self._kept(messages, f"{i + 1:04d}", [])
            lines.append(json.dumps({"messages": kept}, ensure_ascii=False) + "\n")
        (self._directory / "conversations.jsonl").write_text("".join(lines), "utf-8")

    def _kept(self, value: Any, name: str, kept: list[str]) -> Any:
        """A value with media that are paths or bytes replaced by the names of copies."""
        if isinstance(value, list | tuple):
            return [self._kept(inner, name, kept) for inner in value]
        if not isinstance(value, Mapping):
            return value
        kept_value = {}
        for key, inner in value.items():
            is_path = isinstance(inner, str) and "://" not in inner and not inner.startswith("data:")
            if key in ("image", "audio", "video") and (isinstance(inner, bytes) or is_path):
                content = inner if isinstance(inner, bytes) else _content(inner)
                suffix = "" if isinstance(inner, bytes) else Path(inner).suffix[:12]
                file = f"media/{name}-{len(kept) + 1}{suffix}"
                (self._directory / "media").mkdir(exist_ok=True)
                (self._directory / file).write_bytes(content)
                kept.append(file)
                kept_value[key] = file
            else:
                kept_value[key] = self._kept(inner, name, kept)
        return kept_value


@contextmanager
def writing(directory: Path, *, overwrite: bool = False) -> Iterator[Writer]:
    """A writer whose folder takes its place when all has been written; nothing is left where anything fails.

    Raises:
        InputError: `record_exists`, the folder holds a record already; `not_a_directory`, it holds something else.
    """
    directory = directory.absolute()
    if (directory / MANIFEST).exists():
        if not overwrite:
            raise InputError("record_exists", f"{directory.name} holds a record already; --overwrite replaces it")
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError("not_a_directory", f"{directory.name} is no empty folder, and holds no record")
    token = secrets.token_hex(4)
    staging, old = (directory.with_name(f".{directory.name}.{what}-{token}") for what in ("writing", "replaced"))
    (staging / "cases").mkdir(parents=True)
    try:
        yield Writer(staging)
        if directory.exists():
            os.replace(directory, old)
        try:
            os.replace(staging, directory)
        except OSError:
            if old.exists():
                os.replace(old, directory)
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _file(directory: Path, case: str) -> Path:
    return directory / "cases" / f"{case}.safetensors"


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InputError("bad_file", f"{path[:160]} cannot be read: {reason}") from error
