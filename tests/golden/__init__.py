"""Golden data: small checkpoints, made-up media, and what the reference makes of them."""
