"""The checks of ``fcit-cli gpu-check`` on the GPUs of this machine; without one they are skipped."""

import pytest
import torch

from fcit_plugin.gpu_check.checks import CHECKS
from fcit_plugin.gpu_check.runner import make

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_what_a_check_asserts_holds_on_this_gpu(check, tmp_path):
    outcome = make(check, "cuda", tmp_path)
    if outcome.word == "skipped":
        pytest.skip(outcome.told)
    assert outcome.word == "held", "\n".join([outcome.told, *outcome.log])
