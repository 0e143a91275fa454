"""What this installation has, and what it lacks: versions, devices, decoders, caches, extras."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from omni.errors import InputError

DISTRIBUTION = "omni-jax"
ACCELERATORS = ("cuda", "tpu")
# Of FFmpeg: what the videos and audio of most people are in.
_DECODERS: dict[str, tuple[str, ...]] = {
    name: (name,) for name in "h264 hevc vp9 mpeg4 aac opus mp3 vorbis flac".split()
}
# FFmpeg's own av1 needs hardware.
_DECODERS["av1"] = ("libdav1d", "libaom-av1", "libgav1")
_MOST_FILES = 200_000

State = Literal["ok", "missing", "wrong", "note"]
"""`wrong` and `missing` make the whole wrong; a `note` does not."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: "versions", "devices", "decoders", "caches" or "extras".
        name: what it is.
        state: how it is.
        text: its version, size or fault.
        remedy: the command that gets what is missing; empty where nothing is.
    """

    section: str
    name: str
    state: State
    text: str
    remedy: str = ""


@dataclass
class Diagnosis:
    """All that was looked at, in order.

    Attributes:
        findings: what was looked at.
    """

    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing that is needed is missing or wrong."""
        return all(finding.state in ("ok", "note") for finding in self.findings)

    def add(self, section: str, name: str, state: State, text: str, remedy: str = "") -> None:
        """Note one thing."""
        self.findings.append(Finding(section, name, state, text, remedy))


def diagnose(needed: Sequence[str] = ()) -> Diagnosis:
    """Look at everything; reads no checkpoint and uses no network.

    Args:
        needed: extras without which the result is not good.

    Raises:
        InputError: `bad_option`, there is no such extra.
    """
    requirements, extras = _requirements()
    if unknown := [name for name in needed if name not in extras]:
        raise InputError("bad_option", f"there is no extra {', '.join(unknown)}; there are {', '.join(sorted(extras))}")
    found = Diagnosis()
    _versions(found, requirements)
    _devices(found)
    _decoders(found)
    _caches(found)
    for name in extras:
        _extra(found, name, extras, name in needed)
    return found


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What the installed distribution needs, and what each extra for users adds."""
    try:
        every = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    needs = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]

    def added(extra: str) -> list[Requirement]:
        return [one for one in every if one not in needs and one.marker and one.marker.evaluate({"extra": extra})]

    users = {extra for one in added("all") if one.name == DISTRIBUTION for extra in one.extras}
    return needs, {extra: added(extra) for extra in [*sorted(users), *ACCELERATORS] if added(extra)}


def _lacking(requirements: Iterable[Requirement], extras: dict[str, list[Requirement]]) -> list[str]:
    """Which of these are absent or too old; extras of our own stand for what they add."""
    lacking = []
    for one in requirements:
        if one.name == DISTRIBUTION:
            lacking += [name for extra in one.extras for name in _lacking(extras.get(extra, ()), extras)]
            continue
        version = _version(one.name)
        if version is None:
            lacking.append(one.name)
        elif not one.specifier.contains(version, prereleases=True):
            lacking.append(f"{one.name} {version}, which is not {one.specifier}")
    return list(dict.fromkeys(lacking))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(found: Diagnosis, requirements: Sequence[Requirement]) -> None:
    import omni

    found.add("versions", "omni", "ok", omni.__version__)
    found.add("versions", "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    if not requirements:
        text = "run from its source, and not installed: what it needs cannot be told"
        found.add("versions", DISTRIBUTION, "note", text, f"pip install {DISTRIBUTION}")
    for one in requirements:
        version = _version(one.name)
        if version is None:
            found.add("versions", one.name, "missing", f"needed, {one.specifier}", f"pip install '{one}'")
        elif not one.specifier.contains(version, prereleases=True):
            found.add("versions", one.name, "wrong", f"{version}, needed {one.specifier}", f"pip install -U '{one}'")
        else:
            found.add("versions", one.name, "ok", version)


def _devices(found: Diagnosis) -> None:
    found.add("devices", "processor", "ok", f"{os.cpu_count()} cores, {_size(_memory())} of memory")
    try:
        import jax

        devices = jax.devices()
    except Exception as error:
        text = f"JAX cannot start: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
        found.add("devices", "jax", "wrong", text, f"pip install -U {DISTRIBUTION}")
        return
    for device in devices:
        limit = (_memory_of(device) or {}).get("bytes_limit")
        memory = f", {_size(limit)} for JAX" if limit else ""
        found.add("devices", f"{device.platform} {device.id}", "ok", f"{device.device_kind}{memory}")
    if {device.platform for device in devices} == {"cpu"}:
        for extra, name, there in (
            ("cuda", "NVIDIA GPU", shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()),
            ("tpu", "TPU", Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()),
        ):
            if there:
                found.add("devices", name, "note", "is here, and JAX does not use it", _install(extra))


def _memory_of(device: Any) -> dict[str, int] | None:
    try:
        return device.memory_stats()
    except Exception:  # devices that do not tell raise what they like
        return None


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _decoders(found: Diagnosis) -> None:
    import PIL.features
    import soundfile

    kinds = [name for name in ("jpg", "webp", "avif", "jpg_2000") if PIL.features.check(name)]
    found.add("decoders", "images", "ok", f"Pillow with {', '.join(kinds)}")
    found.add("decoders", "audio", "ok", f"libsndfile {soundfile.__libsndfile_version__}")
    try:
        import av
        import av.codec
    except ImportError:
        found.add("decoders", "video", "note", "none: no video, no m4a, no audio of videos", _install("video"))
        return
    codecs = ".".join(map(str, av.library_versions["libavcodec"]))
    found.add("decoders", "FFmpeg", "ok", f"libavcodec {codecs}, by PyAV {av.__version__}")
    absent = [name for name, several in _DECODERS.items() if not any(_decodes(av.codec.Codec, one) for one in several)]
    there = ", ".join(name for name in _DECODERS if name not in absent)
    text = f"{there}; not {', '.join(absent)}" if absent else there
    found.add("decoders", "video", "note" if absent else "ok", text)


def _decodes(codec: Any, name: str) -> bool:
    try:
        return codec(name, "r") is not None
    except ValueError:  # what PyAV's unknown codecs are
        return False


def _caches(found: Diagnosis) -> None:
    import jax
    from huggingface_hub import constants

    from omni.program_cache import enable_compilation_cache

    enable_compilation_cache()
    config: Any = jax.config
    places = (("compiled programs", config.jax_compilation_cache_dir), ("hub", constants.HF_HUB_CACHE))
    for name, place in places:
        if not place:
            found.add("caches", name, "note", "off")
            continue
        files, size, whole = _usage(Path(place))
        about = f"{'' if whole else 'more than '}{_size(size)} in {files:,} files" if files else "empty"
        found.add("caches", name, "ok", f"{about}, {place}")


def _usage(folder: Path) -> tuple[int, int, bool]:
    """Files of a folder, their bytes, and whether that is all."""
    files = size = 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            if files == _MOST_FILES:
                return files, size, False
            if entry.is_symlink():
                continue
            if entry.is_dir():
                waiting.append(entry.path)
                continue
            try:
                files, size = files + 1, size + entry.stat().st_size
            except OSError:
                continue
    return files, size, True


def _extra(found: Diagnosis, name: str, extras: dict[str, list[Requirement]], needed: bool) -> None:
    lacking = _lacking(extras[name], extras)
    if name in ACCELERATORS and not lacking:
        lacking = [plugin for plugin in _plugins(name) if _version(plugin) is None]
    if not lacking:
        found.add("extras", name, "ok", "installed")
    else:
        found.add("extras", name, "missing" if needed else "note", f"without {', '.join(lacking)}", _install(name))


def _plugins(name: str) -> tuple[str, ...]:
    """What the accelerator's extra of JAX brings."""
    if name == "tpu":
        return ("libtpu",)
    return () if any(_version(f"jax-cuda{n}-plugin") for n in (12, 13)) else ("jax-cuda12-plugin",)


def _install(extra: str) -> str:
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
