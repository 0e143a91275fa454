"""Operations of the decoder, each with one name and several implementations."""
