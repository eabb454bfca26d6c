from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.engine import run_ids
from mlflow_pipes.engine.run_ids import ids_in_order, random_id


def test_ids_are_mlflows_and_each_is_new():
    ids = [random_id(), *islice(ids_in_order(), 100), *islice(ids_in_order(), 100)]
    assert len(set(ids)) == 201
    assert all(len(one) == 32 and int(one, 16) >= 0 and one == one.lower() for one in ids)


@given(st.binary(min_size=16, max_size=16), st.integers(1, 50))
def test_ids_follow_each_other_wherever_they_begin(start, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_ids.os, "urandom", lambda size: start[:size])
        numbers = [int(one, 16) for one in islice(ids_in_order(), count)]
    first = int.from_bytes(start, "big")
    assert numbers == [(first + number) % 2**128 for number in range(count)]
