"""Embeds every picture, recording and clip of a folder; writes one file a medium, and one table of pooled vectors.

python samples/embed_folder.py FOLDER OUT [CHECKPOINT]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import omni
from processors import sniff


def media_in(folder: Path) -> Iterator[Path]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            sniff(path)
        except omni.InputError as error:
            print(f"left out {path.name}: {error.code}")
        else:
            yield path


def main(folder: Path, out: Path, checkpoint: str = "demo") -> None:
    # The text part's weights are never read.
    model = omni.load(checkpoint, parts=("vision", "audio"))
    paths = list(media_in(folder))
    embeddings = model.encode(paths, batch_size=4)
    out.mkdir(parents=True, exist_ok=True)
    for path, e in zip(paths, embeddings, strict=True):
        e.save(out / f"{path.name}.safetensors")
        print(f"{e.kind:5}  {len(e.tokens):5} tokens  {path.name}")
    np.savez(out / "pooled.npz", names=[path.name for path in paths], vectors=[e.pooled() for e in embeddings])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
