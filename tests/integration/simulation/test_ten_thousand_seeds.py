"""Ten thousand random scenarios, always the same ones: crashes, silences, several runs on one ledger, growth, faults."""

import pytest

from mlflow_pipes.testing.simulate import main

SEEDS, AT_ONCE = 10_000, 2_500


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_seed_breaks_a_law_of_scheduling(first, capsys):
    failed = main(["--from", str(first), "--seeds", str(AT_ONCE)])
    assert not failed, capsys.readouterr().out
