"""A run with differential privacy: what leaves the clients is noisy, and the report says what it came to."""

import numpy as np
import pytest
from runs import report_of
from safetensors.numpy import load_file

from fcit_plugin.federation.accounting import gaussian_epsilon
from fcit_plugin.knowledge.vectors import on_grid

pytest.importorskip("dp_accounting")


def test_tokens_are_noisy_updates_are_clipped_and_log_report_and_card_tell_the_epsilon_alike(
    text_keys, text_run, run, tmp_path, capfd
):
    noise = {"fcit_identity_noise": 0.01, "fcit_dp_clipping_norm": 0.05, "fcit_dp_noise_multiplier": 0.7}
    changes = {"fcit_stages": [["color"]], "fcit_num_rounds": 2, "fcit_eval_every": "never", "report_to": "none"}
    out = run({**text_keys, **changes, **noise, "output_dir": str(tmp_path / "out")})
    report, printed = report_of(out), capfd.readouterr().out
    rounds = [row["client"] for row in report["assignments"]]
    most = max(rounds.count(client) for client in rounds)
    spent = report["privacy"]
    assert {key: spent[key] for key in ("identity_noise", "clipping_norm", "noise_multiplier")} == {
        key.removeprefix("fcit_").removeprefix("dp_"): value for key, value in noise.items()
    }
    assert spent["total"] == spent["stages"][0]
    assert spent["total"]["epsilon_updates"] == gaussian_epsilon([(0.7, most)], 1e-5)
    assert spent["total"]["epsilon"] == gaussian_epsilon([(0.7, most), (0.01, 1)], 1e-5)
    said = (
        f"Epsilon if the noise were secret: {spent['total']['epsilon']:.4g} at delta 1e-05 (simulated noise: protects nobody)"
    )
    assert spent["statement"] == said
    for text in (printed, (out / "README.md").read_text()):
        assert said in text and "Privacy spent" not in text
    folders = sorted(path.name for path in (out / "updates").iterdir() if "round0" in path.name)
    assert len(folders) == 2
    for name in folders:
        plain, noisy = (load_file(run / "updates" / name / "fcit_update.safetensors")["token/mean"] for run in (text_run, out))
        drawn = (noisy - plain / np.linalg.norm(plain)) / 0.01
        assert np.std(drawn) == pytest.approx(1, abs=0.3) and noisy.tobytes() == on_grid(noisy).tobytes()
    assert report_of(text_run)["privacy"] is None
