"""The log's times are the run's, whatever the machine's clock is set to meanwhile."""

import time
from types import SimpleNamespace

import pytest

from fcit_plugin.engine.monitor import Monitor
from fcit_plugin.federation.messages import ClientConfig


@pytest.mark.parametrize("jump", [-86_400.0 * 400, 86_400.0 * 400])
def test_a_clock_that_is_set_while_a_run_is_at_work_makes_no_time_of_its(jump, tmp_path, monkeypatch):
    args = SimpleNamespace(process_index=0, disable_tqdm=True, output_dir=str(tmp_path), report_to=[])
    monitor = Monitor(args, total_steps=10, step=4, seconds=3600.0)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    monitor.site_trained(ClientConfig("run", 0, 0, 0, 0, 0), steps=1, loss=1.0)
    (line,) = monitor.log
    hours = [int(line[key].split(":")[0]) for key in ("elapsed_time", "remaining_time")]
    assert hours == [1, 1] and "day" not in line["elapsed_time"] + line["remaining_time"]
