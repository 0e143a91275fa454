"""Makes replay.zip beside the demo: conversations like those that it learned from, for `omni train` to mix in.

    python -m samples.demo_recipe.make_demo_replay [--count 160] [--described 120] [--unknown 40]

Most new things are taught by asking what is in a picture, and forgotten first is what else may be in one: questions of
that kind are there in addition, most of them of known shapes and some of what the demo does not know. Needs the
`demo-data` extra, and the synthesisers of `samples.make_demo_data` unless skills that speak are skipped. All is of the
training split, so that heldout.zip measures what it did before. Images are JPEG files, to be small.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omni.loading import find_directory
from samples.demo_recipe.conversations import SKILLS, describe, unknown_picture

_MOST_MESSAGES, _QUALITY = 5, 88
_STAMP = (2026, 1, 1, 0, 0, 0)


def small(content: bytes, suffix: str) -> tuple[bytes, str]:
    """An image as JPEG; other media as they are."""
    if suffix != "png":
        return content, suffix
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue(), "jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=160, help="conversations of all skills")
    parser.add_argument("--described", type=int, default=120, help="and of pictures that are described")
    parser.add_argument("--unknown", type=int, default=40, help="and of pictures that the demo does not know")
    parser.add_argument("--skip", nargs="*", default=[], choices=[skill.__name__ for skill in SKILLS])
    parser.add_argument("--out", type=Path, default=find_directory("demo") / "replay.zip")
    options = parser.parse_args()
    makers = {skill: share for skill, (share, _) in SKILLS.items() if skill.__name__ not in options.skip}
    shares = np.array(list(makers.values()), float)
    random, files, lines = np.random.RandomState(2026), {}, []
    more = [describe] * options.described + [unknown_picture] * options.unknown
    while len(lines) < options.count + len(more):
        added = len(lines) - options.count
        maker = more[added] if added >= 0 else list(makers)[random.choice(len(shares), p=shares / shares.sum())]
        own: dict[str, bytes] = {}

        def keep(content: bytes, suffix: str, own: dict[str, bytes] = own) -> str:
            content, suffix = small(content, suffix)
            own[f"{len(lines):03d}-{len(own)}.{suffix}"] = content
            return list(own)[-1]

        messages: list[dict[str, Any]] = maker(random, False, keep)
        if 0 < len(messages) <= _MOST_MESSAGES:
            files |= own
            lines.append(json.dumps({"messages": messages, "skill": maker.__name__}))
    with zipfile.ZipFile(options.out, "w") as archive:
        text = ("\n".join(lines) + "\n").encode()
        archive.writestr(zipfile.ZipInfo("replay.jsonl", _STAMP), text, zipfile.ZIP_DEFLATED)
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _STAMP), content)
    print(f"{len(lines)} conversations, {options.out.stat().st_size:,} bytes in {options.out}")


if __name__ == "__main__":
    main()
