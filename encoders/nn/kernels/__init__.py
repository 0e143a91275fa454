"""Products that Numba compiles, for where XLA on the CPU is slower than the memory."""
