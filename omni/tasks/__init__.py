"""Tasks with a recipe of their own: transcripts, and vectors."""
