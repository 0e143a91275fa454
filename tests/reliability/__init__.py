"""The nets under everything: a corpus of odd and bad inputs, fuzzing, invariance, threads, mutation."""
