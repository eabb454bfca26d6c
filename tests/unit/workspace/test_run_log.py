import threading

from mlflow_pipes.model.attempt import AttemptId, LogLine
from mlflow_pipes.workspace.logs import Followed, LogFilter, RunLogWriter, follow_log, log_file, read_log

RUN, OTHER = "a" * 32, "b" * 32


def line(text, node="train[x=1]", stream="stdout", number=1):
    return LogLine(AttemptId(RUN, node, number), stream, text, 12.5)


def write(folder, *lines):
    with RunLogWriter(folder, RUN) as log:
        for one in lines:
            log.append(one)
        log.flush()


def test_lines_are_read_back_as_they_were(tmp_path):
    lines = [line("hello"), line("größe\x00 \u2028 \udcff", number=2), line("", stream="logging")]
    write(tmp_path, *lines)
    assert list(read_log(tmp_path, RUN)) == lines


def test_a_run_that_printed_nothing_has_an_empty_log_and_no_file(tmp_path):
    write(tmp_path)
    assert not log_file(tmp_path, RUN).exists()
    assert list(read_log(tmp_path, RUN)) == []


def test_closing_writes_what_was_held(tmp_path):
    log = RunLogWriter(tmp_path, RUN)
    log.append(line("last words"))
    log.close()
    log.close()
    assert [one.text for one in read_log(tmp_path, RUN)] == ["last words"]


def test_lines_are_filtered_by_node_or_step_name_and_stream(tmp_path):
    write(tmp_path, line("a"), line("b", node="train[x=2]"), line("c", node="load"), line("d", stream="stderr"))

    def texts(**wanted):
        return [one.text for one in read_log(tmp_path, RUN, LogFilter(**wanted))]

    assert texts(node="train[x=1]") == ["a", "d"]
    assert texts(node="train") == ["a", "b", "d"]
    assert texts(node="train", streams=frozenset({"stderr"})) == ["d"]


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path):
    write(tmp_path, line("whole"))
    with log_file(tmp_path, RUN).open("a") as stream:
        stream.write('[12.5,"train","he')
    assert [one.text for one in read_log(tmp_path, RUN)] == ["whole"]


def test_following_yields_lines_as_they_come_until_the_run_has_ended(tmp_path):
    ended = threading.Event()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(follow_log(tmp_path, RUN, lambda: Followed(ended.is_set()))))
    reader.start()
    with RunLogWriter(tmp_path, RUN) as log:
        for number in range(3):
            log.append(line(str(number)))
            log.flush()
    ended.set()
    reader.join(10)
    assert [one.text for one in seen] == ["0", "1", "2"]


def test_following_a_run_reads_also_the_steps_of_others_that_compute_what_it_waits_for(tmp_path):
    others = [(OTHER, "load")]
    for run_id in (RUN, OTHER):
        with RunLogWriter(tmp_path, run_id) as writer:
            for node in ("load", "train"):
                writer.append(LogLine(AttemptId(run_id, node, 1), "stdout", f"{node} of {run_id[:2]}", 1.0))
    answers = iter([Followed(over=False), Followed(over=False, others=others), Followed(over=False, others=others)])
    lines = follow_log(tmp_path, RUN, lambda: next(answers, Followed(over=True)), LogFilter("train"))
    assert [one.text for one in lines] == [f"train of {RUN[:2]}", f"load of {OTHER[:2]}"]
