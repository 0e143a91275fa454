"""Flags of XLA for tests, whose time goes to compiling most of all.

Quickly made programs do the same sums, a little slower. Fusions are made by the older of two emitters, where there are
two: that takes a quarter off the time of compiling a decoder's prefill. And a program is compiled in one piece: pieces
would be compiled side by side, but each processor has a worker of its own to serve.
"""

from importlib.metadata import version

# XLA ends the process at a flag that it does not know.
_HAS_BOTH_EMITTERS = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
QUICK_COMPILE_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1" + (
    " --xla_cpu_use_fusion_emitters=false" if _HAS_BOTH_EMITTERS else ""
)
