"""What forms with a running softmax share."""

LOWEST = -1e30
"""A score that nothing sees; finite, so that a row which sees nothing has no NaN."""
FEW_SLOTS = 64
"""Slots of the smallest block."""
