"""A few hundred mutants of every kind; `make check` tries twenty thousand."""

import pytest

from tests.reliability import fuzz

FEW = {"image": 120, "audio": 80, "video": 30, "data_uri": 60, "safetensors": 100, "message": 60, "template": 60}


@pytest.mark.parametrize("kind", list(FEW))
def test_mutants_give_a_value_or_one_error(kind, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fuzz, "KEPT", tmp_path)
    tally = fuzz.chunk((kind, 0, FEW[kind], 7))
    capfd.readouterr()
    assert tally.tried == FEW[kind] and not tally.faults, "\n".join(tally.faults)
