"""Embeds media with Daft, whose data frames run on one machine or on a Ray cluster: `Encoder` is the body of a UDF.

pip install "omni-jax[bulk,video]" daft
python samples/embed_with_daft.py "samples/*.jpg" out/vectors [CHECKPOINT]
"""

import glob
import sys
from typing import Any

import daft  # pyright: ignore[reportMissingImports]  # make ray installs it
import pyarrow

from omni.bulk.ray_data import Encoder, encoded_schema


def embedder(checkpoint: str) -> Any:
    """A UDF from paths to rows; Daft makes one encoder in each of its workers, and calls it batch by batch."""
    row = daft.DataType.from_arrow_type(pyarrow.struct(list(encoded_schema(checkpoint))))

    @daft.cls(max_concurrency=1)  # encoders; `gpus=0.5` lets two share a device
    class Embedder:
        def __init__(self, checkpoint: str):
            self.encoder = Encoder(checkpoint, column="path")

        @daft.method.batch(return_dtype=row, batch_size=32)
        def __call__(self, paths: daft.Series) -> Any:
            return self.encoder({"path": paths.to_pylist()}).to_struct_array().combine_chunks()

    return Embedder(checkpoint)


def main(pattern: str, out: str, checkpoint: str = "demo") -> None:
    paths = daft.from_pydict({"path": sorted(glob.glob(pattern, recursive=True))})
    rows = paths.select(embedder(checkpoint)(daft.col("path")).alias("row")).select(daft.col("row").unnest())
    rows.write_parquet(out, write_mode="overwrite")
    daft.read_parquet(out).select("id", "kind", "tokens", "error_code").show(20)


if __name__ == "__main__":
    main(*sys.argv[1:])
