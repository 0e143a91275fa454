"""Operations with one name and several implementations."""
