from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.tracking.batches import batches

sizes = st.tuples(st.integers(0, 3000), st.integers(0, 350), st.integers(0, 350))


@given(sizes)
def test_batches_keep_mlflows_limits_and_lose_and_reorder_nothing(size: tuple[int, int, int]) -> None:
    metrics, params, tags = (list(range(count)) for count in size)
    sent = list(batches(metrics, params, tags))
    for some_metrics, some_params, some_tags in sent:
        assert len(some_params) <= 100
        assert len(some_tags) <= 100
        assert 0 < len(some_metrics) + len(some_params) + len(some_tags) <= 1000
    assert [m for batch in sent for m in batch[0]] == metrics
    assert [p for batch in sent for p in batch[1]] == params
    assert [t for batch in sent for t in batch[2]] == tags
