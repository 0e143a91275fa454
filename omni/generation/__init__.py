"""Token ids in, token ids out: the engine and its sampling."""
