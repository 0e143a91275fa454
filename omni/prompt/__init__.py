"""Conversations to what the decoder reads: templates, tokens, positions, rows of media."""
