"""Makes `decoders.py`, beside this file, importable by the tests here, as tests/conftest.py does and tells why."""

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("decoders", Path(__file__).with_name("decoders.py"))
assert spec is not None and spec.loader is not None
sys.modules["decoders"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["decoders"])
