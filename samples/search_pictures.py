"""Finds the pictures of a folder that are most like a given one, by the cosine of their pooled embeddings.

python samples/search_pictures.py PICTURE FOLDER [CHECKPOINT]
"""

import sys
from pathlib import Path

import numpy as np

import omni


def main(query: str, folder: str, checkpoint: str = "demo") -> None:
    model = omni.load(checkpoint, parts=("vision",))
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    wanted, *vectors = [e.pooled() for e in model.encode([query, *paths], batch_size=8)]
    table = np.stack(vectors)
    # Away from their mean: what all pictures share says nothing about which are alike.
    centre = table.mean(axis=0)
    table, wanted = table - centre, wanted - centre
    cosines = table @ wanted / (np.linalg.norm(table, axis=1) * np.linalg.norm(wanted))
    for i in np.argsort(-cosines):
        print(f"{cosines[i]:+.3f}  {paths[i].name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
