"""Steps, bytes and shares of a plan against Hugging Face's Trainer, Flower's arrays and figures worked by hand."""

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from scalar import Scalar
from transformers import Trainer, TrainingArguments

from fcit_plugin.plan.work import ClientWork, Payload, Schedule, TaskShare, array_bytes, optimizer_steps


@pytest.mark.parametrize(
    ("records", "batch", "accumulation", "epochs", "max_steps"),
    [(7, 2, 1, 1.0, -1), (8, 2, 3, 2.0, -1), (1, 4, 8, 1.0, -1), (9, 2, 2, 1.5, -1), (5, 2, 4, 3.0, -1), (9, 2, 2, 1.0, 4)],
)
def test_steps_are_those_that_huggingfaces_trainer_makes(records, batch, accumulation, epochs, max_steps, tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs,
        max_steps=max_steps,
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
    )
    trainer = Trainer(Scalar(), args, train_dataset=[{"x": torch.ones(1)}] * records)
    trainer.train()
    expected = optimizer_steps(records, batch=batch, accumulation=accumulation, epochs=epochs, max_steps=max_steps)
    assert trainer.state.global_step == expected


def test_processes_share_a_step():
    assert optimizer_steps(1000, batch=8, processes=8, accumulation=2, epochs=1.0) == 8  # 16 batches of 64, two a step
    assert optimizer_steps(50, batch=8, processes=8, accumulation=2, epochs=1.0) == 1


@given(st.lists(st.integers(0, 40), max_size=4))
def test_an_arrays_bytes_are_those_of_flowers_message(shape):
    assert array_bytes(tuple(shape)) == len(Array(np.zeros(shape, np.float32)).data)


def test_llava_15_7b_sends_32_6_million_numbers_a_round():
    """Rank 8 on gate, up (4096 -> 11008) and down (11008 -> 4096) of 32 layers, and the two layers of the projector."""
    layer = ((8, 4096), (11008, 8), (8, 4096), (11008, 8), (8, 11008), (4096, 8))
    projector = ((4096, 1024), (4096,), (4096, 4096), (4096,))
    payload = Payload(layer * 32, layer * 32, projector, dimension=768)
    numbers = 32 * 3 * 8 * (4096 + 11008) + 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    headers = 128 * (6 * 32 + 4)
    assert numbers == 11_599_872 + 20_979_712
    assert payload.down == 4 * numbers + headers
    assert payload.up == payload.down + 2 * (4 * 768 + 128)


def test_a_schedule_sums_its_work():
    work = [ClientWork(0, 0, 3, "a", 10, 2), ClientWork(0, 0, 5, "b", 7, 1), ClientWork(0, 1, 3, "a", 10, 2)]
    schedule = Schedule(tuple(work), Payload(((2, 3),), ((2, 3),), (), dimension=4))
    assert schedule.steps == 5
    assert [tuple(w.client for w in row) for row in schedule.rounds()] == [(3, 5), (3,)]
    assert schedule.bytes_down == 3 * (128 + 24)
    assert schedule.bytes_up == 3 * (128 + 24 + 2 * (128 + 16))
    assert Schedule(tuple(work), None).bytes_up == Schedule(tuple(work), None).bytes_down == 0


def test_a_tasks_shares_are_summed_up():
    assert TaskShare("a", [5, 1, 9, 2]).summary() == {
        "task": "a",
        "records": 17,
        "smallest": 1,
        "median": 3.5,
        "largest": 9,
    }
