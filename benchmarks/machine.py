"""What a machine can do, measured by the library of each side: products, reading and copying; and what it is called."""

import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import Product

# Of operands and result together; batches are cut down to it, and rows to the second.
_MOST_VALUES, _MOST_ROWS = 1 << 26, 4096
TRY_SECONDS = 0.25
_ON_DEVICE = 8


def processor() -> str:
    """The processor's name, told apart from others of the same name by its family and model."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}), {cores()} cores"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slug(name: str) -> str:
    """A name as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "")).strip("-")


def now() -> str:
    """Date and time, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def versions(side: str) -> dict[str, str]:
    """Versions of the libraries that a side runs on."""
    names = ("jax", "jaxlib", "flax") if side == "ours" else ("torch", "torchvision", "transformers")
    found = {"python": platform.python_version()}
    for name in (*names, "numpy", "pillow", "av"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def on_device(side: str) -> bool:
    """Whether a side computes on an accelerator."""
    if side == "ours":
        import jax

        return jax.default_backend() != "cpu"
    return import_module("torch").cuda.is_available()


def device_peak(side: str) -> int | None:
    """Most bytes taken on an accelerator; None where a side has used none."""
    if ("jax" if side == "ours" else "torch") not in sys.modules or not on_device(side):
        return None
    if side == "ours":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return import_module("torch").cuda.max_memory_allocated()


def rate(side: str, dtype: str, product: Product, seconds: float = TRY_SECONDS) -> float:
    """Floating point operations a second of a product, the best of the forms that a library has.

    Args:
        side: whose library.
        dtype: of the operands.
        product: its shape; its rows and batch may be cut down.
        seconds: for which each form is tried.
    """
    product = _bounded(product)
    forms = _forms_xla(dtype, product) if side == "ours" else _forms_torch(dtype, product)
    return max(product.flops * calls / _fastest(form, seconds) for form, calls in forms)


def _bounded(product: Product) -> Product:
    m, batch = min(product.m, _MOST_ROWS), product.batch
    size = m * product.k + product.k * product.n + m * product.n
    while batch > 1 and batch * size > _MOST_VALUES:
        batch //= 2
    return Product(m, product.k, product.n, batch)


def _fastest(call: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest call, after one that is not counted."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > end:
            return best


def _operands(product: Product) -> list[np.ndarray]:
    """Random numbers, since some devices are faster at multiplying zeros and ones."""
    lead = () if product.batch == 1 else (product.batch,)
    drawn = np.random.RandomState(0).uniform(-1, 1, 1 << 16).astype(np.float32)
    return [np.resize(drawn, (*lead, *shape)) for shape in ((product.m, product.k), (product.k, product.n))]


def _forms_xla(dtype: str, product: Product) -> list[tuple[Callable[[], Any], int]]:
    """Forms, and how many products a call of each makes: several on a device, where to start one may take longer."""
    import jax
    import jax.numpy as jnp

    left, right = (jnp.asarray(array, dtype) for array in _operands(product))
    count = 1 if jax.default_backend() == "cpu" else _ON_DEVICE
    kinds = [jnp.float32] if dtype == "float32" else [jnp.float32, jnp.bfloat16]

    def form(kind: Any) -> Callable[[], Any]:
        multiply = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=kind))
        return lambda: jax.block_until_ready([multiply(left, right) for _ in range(count)][-1])

    return [(form(kind), count) for kind in kinds]


def _forms_torch(dtype: str, product: Product) -> list[tuple[Callable[[], Any], int]]:
    torch: Any = import_module("torch")
    there = torch.cuda.is_available()
    kind, device = getattr(torch, dtype), "cuda" if there else "cpu"
    left, right = (torch.from_numpy(array).to(device, kind) for array in _operands(product))
    count = _ON_DEVICE if there else 1

    def call() -> None:
        for _ in range(count):
            torch.matmul(left, right)
        if there:
            torch.cuda.synchronize()

    return [(call, count)]


def ceilings(side: str, quick: bool) -> dict[str, Any]:
    """Rates of the largest products in each dtype, and bytes a second read and copied.

    Args:
        side: whose library.
        quick: small ones, which show nothing about speed.
    """
    there, seconds = on_device(side), 0.0 if quick else TRY_SECONDS
    sizes = (64,) if quick else (4096, 8192) if there else (1024, 2048, 4096)
    found: dict[str, Any] = {
        dtype: max(rate(side, dtype, Product(size, size, size), seconds) for size in sizes)
        for dtype in ("float32", "bfloat16")
    }
    values = 1 << (12 if quick else 28 if there else 27)
    return found | (_bandwidth_xla(values, there, seconds) if side == "ours" else _bandwidth_torch(values, seconds))


def _bandwidth_xla(values: int, there: bool, seconds: float) -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    array, row = jnp.ones((values // 1024, 1024)), jnp.ones(1024)
    read, copy = jax.jit(jnp.matmul), jax.jit(lambda a: a + 1)
    reads = [4 * values / _fastest(lambda: read(array, row).block_until_ready(), seconds)]
    copies = [8 * values / _fastest(lambda: copy(array).block_until_ready(), seconds)]
    if not there:
        # By threads of our own, since a library may leave one core to itself.
        count = cores()
        parts = np.split(np.ones(values, np.float32), count) if values % count == 0 else [np.ones(values, np.float32)]
        targets = [np.empty_like(part) for part in parts]
        with ThreadPoolExecutor(len(parts)) as pool:
            reads.append(4 * values / _fastest(lambda: list(pool.map(np.dot, parts, parts)), seconds))
            copies.append(8 * values / _fastest(lambda: list(pool.map(np.copyto, targets, parts)), seconds))
    return {"read": max(reads), "copy": max(copies)}


def _bandwidth_torch(values: int, seconds: float) -> dict[str, float]:
    torch: Any = import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    array, row = torch.ones((values // 1024, 1024), device=device), torch.ones(1024, device=device)
    target = torch.empty_like(array)

    def waited(call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            call()
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    read = 4 * values / _fastest(waited(lambda: torch.mv(array, row)), seconds)
    return {"read": read, "copy": 8 * values / _fastest(waited(lambda: target.copy_(array)), seconds)}
