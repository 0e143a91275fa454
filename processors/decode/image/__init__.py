"""Images decoded: what their files promise, and upright RGB."""
