"""What the log says of a run: rounds, scores, what is left; and what others do not say meanwhile."""

import ast
import contextlib
import json
import logging
import os
import pty
import re
import sys
import warnings

import pytest
import transformers
from datasets import are_progress_bars_disabled
from runs import ROOT, run_recipe

from fcit_plugin.engine.narration import Narration
from fcit_plugin.engine.outlook import Ahead, Pace
from fcit_plugin.engine.quiet import quiet_others
from fcit_plugin.errors import tell
from fcit_plugin.evaluation.matrix import AccuracyMatrix


def lines(logged, *parts):
    """The logged lines that have all these parts."""
    return [line for line in logged.messages if all(part in line for part in parts)]


@pytest.mark.parametrize("every", ["stage", "round", "last", "never"])
def test_every_round_has_a_line_at_its_start_and_its_end_and_scores_come_as_a_table(every, text_recipe, logged):
    output_dir = run_recipe(text_recipe(fcit_eval_every=every))
    report = json.loads((output_dir / "fcit_report.json").read_text())
    begins, ends = lines(logged, " begins: "), lines(logged, " ends: ")
    assert len(begins) == len(ends) == 4
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        stage, round = divmod(number, 2)
        assert begin.startswith(f"Stage {stage} round {round} (round {number + 1} of 4 in all) begins: clients ")
        trained = [row for row in report["assignments"] if (row["stage"], row["round"]) == (stage, round)]
        assert begin.endswith(f"clients {' and '.join(str(row['client']) for row in trained)} on {trained[0]['task']}.")
        assert re.search(r" ends: loss [\d.]+, \d+ subspaces?, all clients took part; it took \d+:\d\d:\d\d", end)
        assert (number < 3) <= ("to go, evaluation included." in end) or every in ("last", "stage")
    tables = lines(logged, "Scores after ")
    assert len(tables) == {"stage": 2, "round": 4, "last": 1, "never": 0}[every]
    if every != "never":
        shown = {row[0]: row[1:] for row in map(str.split, tables[-1].splitlines()[3:])}
        for name, score in zip(report["datasets"], report["accuracy"][-1], strict=True):
            assert shown[name][0] == f"{score:.2f}"
    assert len(lines(logged, "Dataset color: 24 records to train on")) == 1
    assert len(lines(logged, "Base model ", " weights, of which a client trains ")) == 1


# in words


def told(rounds=(2, 2)):
    said = []
    return Narration(rounds, said.append), said


def test_clients_are_named_by_task_and_many_are_counted():
    narration, said = told()
    asked = [{"client": 3, "task": "a"}, {"client": 1, "task": "a"}, {"client": 2, "task": "b"}]
    narration.round_begins(1, 0, asked, 0)
    assert said[-1] == "Stage 1 round 0 (round 3 of 4 in all) begins: clients 1 and 3 on a; client 2 on b."
    narration.round_begins(0, 0, [{"client": i, "task": "a"} for i in range(50)], 0)
    assert said[-1].endswith("clients 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 38 more on a.")


def test_who_is_left_out_is_said_at_the_end_and_a_second_attempt_at_its_start():
    narration, said = told()
    narration.round_begins(0, 0, [{"client": 1, "task": "a"}], 0)
    narration.left_out(1, "it is gone")
    narration.round_begins(0, 0, [{"client": 2, "task": "a"}], 0)
    assert "begins once more, for too few replied: client 2 on a." in said[-1]
    narration.left_out(4, "it is gone")
    narration.round_ended(0, 0, 0.5, 1, 3, Ahead(0, 0))
    assert "loss 0.5000, 1 subspace, client 4 left out" in said[-1]
    narration.round_begins(0, 1, [{"client": 2, "task": "a"}], 3)
    assert "once more" not in said[-1]


def test_scores_stand_beside_those_of_a_stage_ago_and_of_the_untuned_model():
    narration, said = told()
    matrix = AccuracyMatrix()
    matrix.add(0, {"fcit_a": 80.0})
    matrix.add(1, {"fcit_a": 50.0, "b": 30.0})
    narration.scored(1, 1, {"fcit_a": 50.0, "b": 30.0}, matrix, {"fcit_a": 1.0})
    heading, titles, _, *rows, last = said[-1].splitlines()
    assert heading == "Scores after stage 1, from 0 to 100:"
    assert [row.split() for row in rows] == [["a", "50.00", "80.00", "1.00"], ["b", "30.00", "-", "-"], ["mean", "40.00"]]
    assert last == "Forgotten so far: 30.00 points a dataset." and "a stage ago" in titles


def test_what_is_left_counts_steps_and_answers_each_at_its_own_pace():
    pace = Pace()
    assert pace.left(Ahead(1, 0)) is None
    pace.trained(10.0, 5)
    assert pace.left(Ahead(3, 0)) == pytest.approx(6.0)
    assert pace.left(Ahead(3, 1)) is None, "how long an answer takes is not known yet"
    pace.answered(8.0, 2)
    assert pace.left(Ahead(3, 4)) == pytest.approx(6.0 + 16.0)
    assert pace.left(Ahead(0, 0)) == 0


# what others say


@pytest.fixture
def spoken():
    """What arrives at the handlers of the loggers of others."""
    found = []

    class Keeps(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler = Keeps()
    loggers = [logging.getLogger(name) for name in ("transformers", "llamafactory", "DeepSpeed")]
    transformers.logging.get_logger("transformers")  # its handlers are there from now on
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


def speak():
    for name in ("transformers.a", "llamafactory.b", "DeepSpeed"):
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "%s %s", name, logging.getLevelName(level))
    for _ in range(2):
        logging.getLogger("transformers.a").warning("Model config Llama")
    logging.getLogger("fcit_plugin.engine.run").info("ours")


def test_others_only_warn_and_all_is_as_before_afterwards(spoken, monkeypatch):
    monkeypatch.delenv("LLAMAFACTORY_VERBOSITY", raising=False)
    names = ("transformers", "llamafactory", "fcit_plugin", "DeepSpeed")
    transformers.logging.set_verbosity_info()
    before = [logging.getLogger(name).level for name in names], are_progress_bars_disabled(), list(warnings.filters)
    with quiet_others():
        speak()
        assert are_progress_bars_disabled()
    assert spoken == [
        *("transformers.a WARNING", "transformers.a ERROR", "llamafactory.b WARNING", "llamafactory.b ERROR"),
        *("DeepSpeed ERROR", "Model config Llama", "ours"),
    ]
    assert before == ([logging.getLogger(name).level for name in names], are_progress_bars_disabled(), list(warnings.filters))
    transformers.logging.set_verbosity_warning()


def test_with_debug_they_say_all_but_a_configuration_once(spoken, monkeypatch):
    monkeypatch.setenv("LLAMAFACTORY_VERBOSITY", "DEBUG")
    transformers.logging.set_verbosity_info()
    with quiet_others():
        speak()
    transformers.logging.set_verbosity_warning()
    assert {"transformers.a INFO", "llamafactory.b INFO", "DeepSpeed WARNING"} <= set(spoken)
    assert spoken.count("Model config Llama") == 1


def test_every_progress_bar_of_ours_stays_out_of_files():
    """``disable=None`` is tqdm's word for: where there is no terminal."""
    without = []
    for path in sorted((ROOT / "fcit_plugin").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tqdm":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if "None" not in given.get("disable", "") and given.get("disable") != "silent":
                    without.append(f"{path}:{node.lineno}")
    assert without == []


@pytest.mark.parametrize("closed", ["pipe", "terminal", "disk"])
def test_lines_that_nobody_can_read_any_more_end_no_run_and_cost_no_traceback(closed, monkeypatch, capfd):
    """A pipe whose reader has ended, a terminal that was closed, a file on a full disk."""
    if closed == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    elif closed == "terminal":
        master, writer = pty.openpty()
        os.close(master)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    handler = logging.StreamHandler(os.fdopen(writer, "w", buffering=1))
    logger = logging.getLogger("llamafactory")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(sys, "stdout", handler.stream)
    with quiet_others():
        logger.warning("a line")
        tell("what came of it")
        assert "Traceback" not in capfd.readouterr().err
        logger.warning("%d", "a programmer's mistake")
        assert "Traceback" in capfd.readouterr().err
    logger.warning("outside of a run")  # but for the disk it goes to nowhere by now
    assert ("Traceback" in capfd.readouterr().err) is (closed == "disk")
    with contextlib.suppress(OSError):
        handler.stream.close()
