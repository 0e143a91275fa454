"""Pixels and mel frames to embeddings: the Qwen3-Omni encoders and projectors in Flax NNX."""

# omni refuses to start when another package of this name stands in our place (omni/_guard.py).
__omni__ = "omni-jax"
