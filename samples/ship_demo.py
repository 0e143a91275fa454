"""Puts what train_demo.py made where `omni.load("demo")` finds it, with the media that `omni eval demo` asks about.

python samples/ship_demo.py TRAINED DATA [DIRECTORY]
"""

import argparse
import json
import zipfile
from pathlib import Path

import omni
from omni.loading import find_directory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trained", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("directory", type=Path, nargs="?", default=find_directory("demo"))
    options = parser.parse_args()
    omni.load(options.trained, dtype="bfloat16").save(options.directory, overwrite=True)
    config = options.directory / "config.json"
    settings = json.loads(config.read_text("utf-8")) | {"omni_demo": {"trained": True}}
    config.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    # Pictures, sounds and clips are compressed already, and the same bytes should come of the same files.
    with zipfile.ZipFile(options.directory / "heldout.zip", "w") as archive:
        lines = (options.data / "test.jsonl").read_bytes()
        archive.writestr(zipfile.ZipInfo("test.jsonl"), lines, zipfile.ZIP_DEFLATED)
        for path in sorted(path for path in (options.data / "test").rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(options.data).as_posix()), path.read_bytes())


if __name__ == "__main__":
    main()
