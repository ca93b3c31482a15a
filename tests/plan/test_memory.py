"""The memory estimate against figures worked by hand."""

from dataclasses import replace

from fcit_plugin.plan.memory import Batch, ModelSize, activation_bytes, estimate

SIZE = ModelSize(frozen_bytes=1000, trained=10, trained_width=4, layers=3, hidden=8, intermediate=16, vocabulary=100)
BATCH = Batch(records=2, tokens=5, width=2, checkpointing=True)
LAYER = 10 * 2 * (8.5 * 8 + 4 * 16)
LOGITS = 10 * 100 * (2 + 8)


def test_without_deepspeed_trained_weights_gradients_and_moments_are_float32():
    memory = estimate(SIZE, BATCH, processes=4)
    assert (memory.frozen, memory.trained, memory.gradients, memory.optimizer) == (1000, 40, 40, 80)
    assert memory.total == 1000 + 40 + 40 + 80 + memory.activations


def test_zero_2_shares_gradients_and_optimizer_out_and_keeps_a_float32_copy():
    memory = estimate(SIZE, BATCH, processes=4, zero_stage=2)
    assert (memory.frozen, memory.trained, memory.gradients, memory.optimizer) == (1000, 20, 5, 30)


def test_zero_3_shares_the_weights_out_too():
    memory = estimate(SIZE, BATCH, processes=4, zero_stage=3)
    assert (memory.frozen, memory.trained) == (250, 5)


def test_zero_in_float32_needs_no_copy():
    memory = estimate(SIZE, replace(BATCH, width=4), processes=4, zero_stage=2)
    assert (memory.trained, memory.optimizer) == (40, 20)


def test_checkpointing_keeps_each_layers_input_and_one_layer():
    assert activation_bytes(SIZE, BATCH) == 3 * 10 * 2 * 8 + LAYER + LOGITS
    assert activation_bytes(SIZE, replace(BATCH, checkpointing=False)) == 3 * LAYER + LOGITS


def test_llava_15_7b_fits_a_40_gb_gpu_with_8_records_of_700_tokens():
    """14.1 GB of float16 weights; 8 x 700 tokens need 1.5 GB of layer inputs, 0.9 GB for one layer, 1.8 GB for the logits."""
    size = ModelSize(2 * 7_042_447_360, 32_579_584, 4, layers=32, hidden=4096, intermediate=11008, vocabulary=32064)
    memory = estimate(size, Batch(8, 700, 2, True), processes=8, zero_stage=2)
    assert memory.frozen == 14_084_894_720
    assert 3.5e9 < memory.activations < 5e9
    assert 17e9 < memory.total < 20e9
