"""Pictures of what the decoder reads: the token layout of a conversation, and how alike its media are."""
