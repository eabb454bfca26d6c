"""Who gets tokens: the policy alone, and what it comes to over time."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_pipes.model.tokens import TokensGranted, TokensShort
from mlflow_pipes.scheduling.sharing import Shares, Standing, decide, in_order
from mlflow_pipes.scheduling.shortage import amounts_text, shared_name, shared_token, shortage, token_text

LIMITS = {"database": 4, "licence": 2, "cpus": 3.0}


def wants(run, node="a", *, since=0.0, held=False, priority=0, step_priority=0, **amounts):
    amounts = amounts or {"database": 1}
    limits = {token: LIMITS[token] for token in amounts}
    return Standing(
        run, node, amounts, limits, since=since, held=held, priority=priority, step_priority=step_priority
    )  # fmt: skip


def order(*waiting, held=()):
    return [f"{one.run_id}/{one.node}" for one in in_order(waiting, Shares(held))]


def ask(standings, *owners):
    answers, granted = decide(standings, owners)
    return [answers[owner] for owner in owners], granted


amounts = st.dictionaries(st.sampled_from(sorted(LIMITS)), st.sampled_from([0.5, 1, 2]), min_size=1)
waiting = st.builds(
    lambda run, node, since, priority, step_priority, amounts: wants(
        run, str(node), since=since, priority=priority, step_priority=step_priority, **amounts
    ),
    st.sampled_from("xyz"),
    st.integers(0, 9),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.sampled_from([0, 0, 5]),
    st.sampled_from([0, 0, 7]),
    amounts,
)
many = st.lists(waiting, max_size=12, unique_by=lambda one: one.owner)


# The order


def test_a_run_of_larger_priority_goes_first_whatever_it_holds_already():
    held = [wants("urgent", "b", held=True, database=3)]
    assert order(wants("x", since=-100.0), wants("urgent", priority=1), held=held) == ["urgent/a", "x/a"]


def test_among_equals_who_holds_the_smaller_share_of_what_is_asked_for_goes_first():
    held = [wants("x", "b", held=True), wants("y", "b", held=True, licence=2)]
    assert order(wants("x", since=-9.0), wants("y")) == ["x/a", "y/a"]
    assert order(wants("x", since=-9.0), wants("y"), held=held) == ["y/a", "x/a"], "licences are not asked for"


def test_who_holds_as_much_goes_first_when_it_has_waited_longer():
    assert order(wants("x", since=2.0), wants("y", since=1.0)) == ["y/a", "x/a"]


def test_within_a_run_the_step_of_larger_priority_goes_first_and_between_runs_it_does_not_count():
    steps = [wants("x", "a", since=0.0), wants("x", "b", since=1.0, step_priority=9), wants("y", "c", since=0.5)]
    assert order(*steps) == ["x/b", "x/a", "y/c"]


@given(many, st.randoms())
def test_the_order_is_total_and_does_not_hang_on_how_they_come(standings, chance):
    shares = Shares([wants("x", "held", held=True), wants("z", "held", held=True, licence=1)])
    expected = in_order(standings, shares)
    shuffled = list(standings)
    chance.shuffle(shuffled)
    assert in_order(shuffled, shares) == expected
    for one in standings:  # who leaves changes nothing between those of other runs
        rest = [other for other in standings if other.run_id != one.run_id]
        assert in_order(rest, shares) == [other for other in expected if other.run_id != one.run_id]


# The answers


def test_what_is_free_is_given():
    (answer,), granted = ask([wants("x")], ("x", "a"))
    assert answer == TokensGranted("a")
    assert granted == [replace(wants("x"), held=True)]


def test_who_holds_what_it_asks_for_is_given_the_same_again():
    held = wants("x", held=True, database=4)
    assert ask([held], ("x", "a")) == ([TokensGranted("a")], [held])


def test_who_is_refused_is_told_what_it_lacks_and_who_has_it():
    held = [wants("x", "b", held=True, database=3), wants("y", "b", held=True)]
    (answer,), _ = ask([*held, wants("z")], ("z", "a"))
    assert answer == TokensShort("a", "database", 1, 4, held_by=(("x", 3.0), ("y", 1.0)))
    told = "waits for 1 of token 'database': 4 of 4 are taken, by run x (3) and this run (1)"
    assert shortage(answer, "y") == told


def test_nobody_overtakes_who_goes_first_and_must_wait_for_more():
    large = wants("x", since=0.0, database=4)
    held = wants("y", "b", held=True, database=1)
    (answer,), _ = ask([large, held, wants("z", since=1.0)], ("z", "a"))
    assert answer == TokensShort("a", "database", 1, 4, held_by=(("y", 1.0),), before=(("x", 4.0),))
    told = "waits for 1 of token 'database': 1 of 4 are taken, by run y; run x goes first"
    assert shortage(answer, "z") == told


def test_a_request_for_something_else_is_not_held_up():
    standings = [wants("x", database=4), wants("y", "b", held=True), wants("z", since=1.0, licence=2)]
    assert ask(standings, ("z", "a"))[0] == [TokensGranted("a")]


def test_tokens_of_which_it_counts_which_are_the_lowest_free_ones():
    def gpus(run, amount, **given):
        return Standing(run, "a", {"gpus": amount}, {"gpus": 4}, numbered=("gpus",), **given)

    standings = [gpus("x", 1, held=True, units={"gpus": (1,)}), gpus("y", 2)]
    assert ask(standings, ("y", "a"))[0] == [TokensGranted("a", {"gpus": (0, 2)})]


@given(many, many, st.data())
def test_no_more_is_given_than_there_is_and_nobody_gets_what_somebody_before_wants(others, holders, data):
    holders = [replace(one, held=True, node=f"held-{one.node}") for one in holders]
    shares = Counter()
    held = []
    for one in holders:  # as far as there was enough
        if all(shares[token] + amount <= LIMITS[token] for token, amount in one.amounts.items()):
            shares.update(one.amounts)
            held.append(one)
    asking = data.draw(st.lists(st.sampled_from([one.owner for one in others]), unique=True)) if others else []
    standings = [*others, *held]
    answers, granted = decide(standings, asking)
    assert set(answers) == set(asking)
    for one in granted:
        shares.update(one.amounts)
    assert all(shares[token] <= LIMITS[token] + 1e-9 for token in LIMITS)
    given_to = {one.owner for one in granted}
    if len(asking) == 1 and given_to:
        ordered = in_order(others, Shares(held))
        before = ordered[: [one.owner for one in ordered].index(asking[0])]
        for token, amount in granted[0].amounts.items():
            wanted = sum(one.amounts.get(token, 0) for one in [*before, *held])
            assert wanted + amount <= LIMITS[token] + 1e-9
    if set(asking) == {one.owner for one in others} and others:
        first = in_order(others, Shares(held))[0]
        fits = all(
            sum(one.amounts.get(token, 0) for one in held) + amount <= LIMITS[token] + 1e-9
            for token, amount in first.amounts.items()
        )
        assert (first.owner in given_to) == fits, "the most urgent one waits for nothing but what is taken"


# Over time


def share_out(runs, *, limit, rounds, takes=1):
    """Let runs ask again and again, each step holding its tokens for *takes* rounds; return who began in which round."""
    held, begun = [], []
    waiting_since = dict.fromkeys(runs, -1.0)
    moments = itertools.count()
    for now in range(rounds):
        held = [(one, until) for one, until in held if until > now]
        for _ in range(limit + 1):
            asking = [
                Standing(run, "next", {"t": amount}, {"t": limit}, priority=priority, since=waiting_since[run])
                for run, (amount, priority) in runs.items()
            ]
            _, granted = decide([*asking, *(one for one, _ in held)], [one.owner for one in asking])
            for one in granted:
                waiting_since[one.run_id] = moment = next(moments)  # no two are given any at the same moment
                held.append((replace(one, node=f"step-{moment}"), now + takes))
                begun.append((now, one.run_id))
        assert sum(one.amounts["t"] for one, _ in held) <= limit
    return begun


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 3))
def test_runs_of_equal_priority_get_equal_shares(limit, count, takes):
    runs = {f"r{number}": (1, 0) for number in range(count)}
    rounds = 60 * takes
    got = Counter(run for _, run in share_out(runs, limit=limit, rounds=rounds, takes=takes))
    assert set(got) == set(runs)
    assert max(got.values()) - min(got.values()) <= limit


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(1, 3))
def test_nobody_starves_among_equals_however_much_it_asks_for(asked_for, takes):
    runs = {f"r{number}": (amount, 0) for number, amount in enumerate(asked_for)}
    begun = share_out(runs, limit=4, rounds=80 * takes, takes=takes)
    for run in runs:
        times = [0, *[now for now, one in begun if one == run], 80 * takes]
        assert max(after - before for before, after in itertools.pairwise(times)) <= 4 * takes * len(runs)


def test_a_run_of_larger_priority_gets_all_it_asks_for():
    begun = share_out({"low": (1, 0), "high": (1, 1)}, limit=1, rounds=20)
    assert {run for _, run in begun} == {"high"}


# In words


def test_tokens_are_called_as_people_know_them():
    local = shared_name("local", "ada")
    assert (
        token_text(shared_token(local, "memory"), 2048) == "2,048 bytes of memory of the shared target 'local' on ada"
    )
    assert token_text(shared_token(shared_name("dask"), "gpus"), 1) == "1 gpu of the shared target 'dask'"
    assert amounts_text({"b": 2, "a": 1}) == "1 of token 'a' and 2 of token 'b'"


@pytest.mark.parametrize(("count", "told"), [(1, "run r0"), (2, "run r0 (2) and run r1 (1)")])
def test_few_holders_are_all_named(count, told):
    holders = tuple((f"r{number}", 2.0 - number) for number in range(count))
    assert shortage(TokensShort("a", "t", 1, 3, held_by=holders), "me").endswith(f"are taken, by {told}")


def test_many_holders_are_counted():
    holders = tuple((f"r{number}", 1.0) for number in range(9))
    assert shortage(TokensShort("a", "t", 1, 9, held_by=holders), "me").endswith("run r2 (1) and 6 more")
