"""What the configuration may say of local tiers, and what becomes of it."""

import pytest

from mlflow_pipes.errors import ConfigurationError
from mlflow_pipes.workspace.checked_tables import Table
from mlflow_pipes.workspace.local_tiers import LOCAL_TIER_BYTES, with_local_tier
from mlflow_pipes.workspace.target_configuration import check_target, read_target

THERE = "tcp://a:1"


def target(**keys):
    found = read_target("far", Table({"type": "dask", "address": THERE, **keys}, "pipes.toml", "targets.far"))
    check_target(found)
    return found


def test_a_tier_is_sent_to_workers_as_a_datastore():
    options = with_local_tier(target(local_tier="/scratch", local_tier_bytes="2 GiB").options, "datastore")
    assert options.pop("there").__reduce__()[1] == ("datastore", "/scratch", 2 * 2**30)
    assert options == {"address": THERE}
    assert with_local_tier(target(local_tier="~/x").options, "d")["there"].__reduce__()[1][2] == LOCAL_TIER_BYTES


def test_there_is_none_where_none_is_named():
    assert with_local_tier(target().options, "datastore") == {"address": THERE}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"local_tier": "scratch"}, r"a folder of each worker's machine: begin it with /, ~ or a variable"),
        ({"local_tier_bytes": "1 GiB"}, "name its folder, `local_tier`"),
        ({"local_tier": "/x", "local_tier_bytes": "much"}, "a size such as '8 GiB'"),
    ],
)
def test_a_tier_that_can_be_nowhere_is_told(keys, told):
    with pytest.raises(ConfigurationError, match=told):
        target(**keys)
