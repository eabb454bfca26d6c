from mlflow_pipes.display.lines import MOST_LINES, header, run_lines, step_lines
from mlflow_pipes.display.look import Look, cells, plain_text
from mlflow_pipes.model.run import Status

LOOK = Look(width=100)
TIMES = "\N{MULTIPLICATION SIGN}"


def shown(progress, tell, look=LOOK, **more):
    return plain_text(step_lines(progress, look, tell.now, **more))


def test_a_small_run_has_a_line_for_each_step(told):
    progress, tell = told
    tell.start().declare("load", "train[depth=4]", "train[depth=8]", "choose")
    tell.reuse("load").begin("train[depth=4]").begin("train[depth=8]").wait(2.5).succeed("train[depth=8]")
    assert shown(progress, tell).splitlines() == [
        "  ↺ load            reused",
        "  ⠋ train[depth=4]  2.5 s",
        "  ✓ train[depth=8]  2.5 s",
        "  · choose",
    ]


def test_progress_of_a_step_is_a_bar_with_its_words(told):
    progress, tell = told
    tell.start().declare("train").begin("train").progress("train", 1, 4, "epoch 1")
    assert shown(progress, tell) == "  ⠋ train  0.0 s  ████░░░░░░░░░░░░ 25%  epoch 1"


def test_a_step_that_runs_for_a_while_shows_what_it_uses_until_it_ends_or_begins_again(told):
    progress, tell = told
    tell.start().declare("train").begin("train").wait(3.0).use("train", 1.5, 3 * 1024**3)
    assert shown(progress, tell) == "  ⠋ train  3.0 s  cpu 150%, memory 3.0 GiB"
    tell.begin("train", 2)
    assert "cpu" not in shown(progress, tell)
    tell.use("train", 1.0, 1024, 2).succeed("train", attempts=2)
    assert "cpu" not in shown(progress, tell)


def test_a_failed_step_says_why_in_one_line(told):
    progress, tell = told
    tell.start().declare("train").begin("train").fail("train", "ValueError: bad depth\nsecond line")
    assert shown(progress, tell) == "  ✗ train  ValueError: bad depth"


def test_further_attempts_are_counted(told):
    progress, tell = told
    tell.start().declare("train").begin("train", 2)
    assert "attempt 2" in shown(progress, tell)
    tell.succeed("train", attempts=2)
    assert "at attempt 2" in shown(progress, tell)


def test_skipped_and_cancelled_steps_say_so(told):
    progress, tell = told
    tell.start().declare("a", "b").change("a", Status.SKIPPED, reason="load failed").change("b", Status.CANCELLED)
    assert shown(progress, tell).splitlines() == ["  ○ a  skipped: load failed", "  ■ b  cancelled"]


def test_a_thousand_calls_of_one_step_are_one_line_with_a_bar(told):
    progress, tell = told
    nodes = [f"score[{i}]" for i in range(1000)]
    tell.start().declare("split").declare(*nodes).declare("gather").succeed("split")
    for node in nodes[:250]:
        tell.succeed(node)
    tell.begin(nodes[250]).begin(nodes[251])
    assert shown(progress, tell).splitlines()[1:] == [
        f"  ⠋ score {TIMES}1,000  █████░░░░░░░░░░░░░░░ 250/1,000  2 running  250 ran",
        "  · gather",
    ]


def test_a_collapsed_step_shows_the_first_problem(told):
    progress, tell = told
    nodes = [f"score[{i}]" for i in range(100)]
    tell.start().declare(*nodes).begin(nodes[0]).fail(nodes[0], "KeyError: 'x'").succeed(*nodes[1:])
    assert shown(progress, tell) == f"  ✗ score {TIMES}100  99 ran  1 failed  KeyError: 'x'"


def test_there_are_never_more_lines_than_room(told):
    progress, tell = told
    tell.start().declare(*[f"step{i}" for i in range(300)]).begin("step250").fail("step260")
    lines = run_lines(progress, LOOK, tell.now, room=12)
    assert len(lines) == 12
    text = plain_text(lines)
    assert "step250" in text
    assert "step260" in text
    assert "more step names" in text


def test_sub_pipelines_stand_where_their_first_step_is_with_their_steps_indented(told):
    progress, tell = told
    tell.start().declare("prep", kind="pipeline").declare("load")
    tell.declare("prep/scale[by=2]", parent="prep").declare("train")
    assert [line.strip() for line in shown(progress, tell).splitlines()] == [
        "· load", "· prep", "·   scale[by=2]", "· train",
    ]  # fmt: skip


def test_the_header_tells_pipeline_run_time_and_how_far(told):
    progress, tell = told
    tell.start("delays").declare("a", "b").succeed("a").wait(12.34)
    assert plain_text([header(progress, LOOK, tell.now)]) == "⠋ delays  run 3f2a91c0  12.3 s  1/2 steps"


def test_on_a_narrow_terminal_lines_are_cut_not_wrapped(told):
    progress, tell = told
    look = Look(width=30)
    tell.start().declare("a_step_with_quite_a_long_name[and=arguments]").begin(
        "a_step_with_quite_a_long_name[and=arguments]"
    )
    tell.progress("a_step_with_quite_a_long_name[and=arguments]", 1, 2, "日本語" * 10)
    for line in run_lines(progress, look, tell.now):
        assert cells(look.text(line)) <= 30


def test_without_unicode_everything_is_ascii(told):
    progress, tell = told
    look = Look(unicode=False, width=80)
    tell.start().declare(*[f"s[{i}]" for i in range(50)]).declare("t").begin("t").progress("t", 1, 2, "Größe")
    text = "\n".join(look.text(line) for line in run_lines(progress, look, tell.now))
    assert text.isascii()
    assert "s x50" in text


def test_by_default_at_most_twenty_steps_are_listed(told):
    progress, tell = told
    tell.start().declare(*[f"s{i}" for i in range(MOST_LINES)])
    assert len(step_lines(progress, LOOK, tell.now)) == MOST_LINES
    tell.declare("one_more")
    assert len(step_lines(progress, LOOK, tell.now)) == MOST_LINES


def test_a_status_is_not_said_twice(told):
    progress, tell = told
    tell.start().declare("a", "b").change("a", Status.CANCELLED, reason="cancelled by Ctrl-C")
    tell.change("b", Status.CANCELLED, reason="the run was stopped")
    assert shown(progress, tell).splitlines() == ["  ■ a  cancelled by Ctrl-C", "  ■ b  cancelled: the run was stopped"]
