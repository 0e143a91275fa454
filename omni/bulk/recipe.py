"""What any process needs to make the vectors of a job."""

import os
from dataclasses import dataclass

from omni.bulk.fingerprint import checkpoint_fingerprint
from omni.bulk.vectors import VectorEncoder
from omni.call_options import DTypeName
from omni.checkpoint.directory import find_directory
from omni.errors import InputError
from omni.loading import load
from omni.model import Model
from processors import Access, Limits, Sources


@dataclass(frozen=True)
class Recipe:
    """How what was read is encoded.

    Attributes:
        model: a name or a path; or one that is loaded, for this process alone.
        model_dtype: of the weights, where the model is loaded for the job.
        pooling: of the vectors, `mean` or `embed`; None for none.
        instruction: of the pooling `embed`.
        limits: how much any medium may take; the model's own when None.
        sources: where media may come from; the model's own when None.
        fingerprint: of the checkpoint that the name must stand for, wherever it is loaded; any when None.
    """

    model: str | os.PathLike[str] | Model
    model_dtype: DTypeName | None = None
    pooling: str | None = None
    instruction: str | None = None
    limits: Limits | None = None
    sources: Sources | None = None
    fingerprint: str | None = None

    @property
    def access(self) -> Access:
        """Return what may be read."""
        if isinstance(self.model, Model):
            return self.model.access(self.limits, self.sources)
        return Access(self.limits or Limits(), self.sources or Sources())

    def load(self) -> Model:
        """Return the model, with the parts that the pooling needs.

        Raises:
            CheckpointError: it cannot be loaded.
            InputError: `other_model`, the name stands for another checkpoint on this machine.
        """
        if isinstance(self.model, Model):
            return self.model
        if self.fingerprint is not None and checkpoint_fingerprint(find_directory(self.model)) != self.fingerprint:
            message = f"on this machine, {os.fspath(self.model)[:200]!r} is another checkpoint than where the job began"
            raise InputError("other_model", message)
        parts = ("vision", "audio", "text") if self.pooling == "embed" else ("vision", "audio")
        return load(self.model, parts=parts, dtype=self.model_dtype, limits=self.limits, sources=self.sources)

    def encoder(self, model: Model) -> VectorEncoder:
        """Return what encodes with the model that `load` gave."""
        return VectorEncoder(model, self.pooling, self.instruction, model.access(self.limits, self.sources))
