"""Where programs run: what implementations are chosen by."""

from typing import Any, cast

import jax


def platform() -> str:
    """Return "cpu", "gpu" or "tpu": of the device that the user has made the default, or of JAX's first choice."""
    device = cast(Any, jax.config).jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform
