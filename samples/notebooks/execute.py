"""Runs the notebooks beside it and keeps what they show, pictures at most 100 KB each.

python -m samples.notebooks.execute [--check] [NOTEBOOK ...]
"""

import io
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
MOST_BYTES = 100_000


def execute(path: Path, keep: bool) -> None:
    """Run a notebook from the top in its own folder; an error in a cell is raised."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        if "outputs" in cell:
            # That there are no widgets for bars of progress concerns this machine alone.
            cell.outputs = [output for output in cell.outputs if "IProgress" not in output.get("text", "")]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"])
    notebook.metadata.pop("language_info", None)
    if keep:
        nbformat.write(notebook, path)


def small(encoded: str) -> str:
    """A picture in fewer colours, and in smaller sides where those do not suffice."""
    data = b64decode(encoded)
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    while len(data) > MOST_BYTES:
        buffer = io.BytesIO()
        picture.quantize(64).save(buffer, "png", optimize=True)
        data = buffer.getvalue()
        picture = picture.resize((int(picture.width * 0.85), int(picture.height * 0.85)), Image.Resampling.LANCZOS)
    return b64encode(data).decode()


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--check"]
    for path in [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb")):
        execute(path, keep="--check" not in sys.argv)
        print(path)
