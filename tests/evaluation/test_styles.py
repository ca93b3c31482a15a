"""A method looks the same in all pictures, whatever else is in them, to all kinds of eyes."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_side_by_side import report

from fcit_plugin.evaluation.side_by_side import side_by_side
from fcit_plugin.evaluation.side_by_side_plots import plot_curves, plot_finals, plot_traffic
from fcit_plugin.evaluation.styles import COLORS, look_of, styles
from fcit_plugin.plugins import registry

#: What a protanope and a deuteranope see of linear RGB: Machado et al. 2009, doi 10.1109/TVCG.2009.113, at severity 1.0.
EYES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def test_no_two_shipped_methods_look_alike():
    looks = [look_of(name) for name in registry("methods")]
    assert len(set(looks)) == len(looks)
    assert look_of("fedavg") == look_of("sequential"), "its old name"


def test_a_strangers_method_looks_like_none_of_the_shipped_ones():
    shipped = {look_of(name) for name, part in registry("methods").items() if part.package.startswith("fcit-plugin ")}
    assert len(shipped) > 7
    assert shipped.isdisjoint(look_of(f"stranger_{i}") for i in range(200))


@pytest.mark.parametrize("eye", EYES)
def test_colors_differ_to_eyes_that_lack_a_kind_of_cone(eye):
    linear = np.array([to_rgb(color) for color in COLORS]) ** 2.2
    seen = np.clip(linear @ np.array(EYES[eye]).T, 0, 1) ** (1 / 2.2)
    assert min(np.abs(one - other).max() for one, other in combinations(seen, 2)) > 0.1


def test_a_group_has_its_look_in_every_picture_and_company(tmp_path, figures):
    groups = {name: [report(name)] for name in ("ewc", "disco", "stranger")}
    for chosen in (groups, {"disco": groups["disco"]}, dict(reversed(groups.items()))):
        comparison = side_by_side("custom", chosen)
        for draw in (plot_curves, plot_traffic, plot_finals):
            draw(comparison, tmp_path / "p.png")
            handles, labels = figures[-1].axes[0].get_legend_handles_labels()
            for handle, label in zip(handles, labels, strict=True):
                if label in groups and draw is plot_curves:
                    assert (handle.get_color(), handle.get_marker()) == look_of(label)
                elif label in groups and draw is plot_traffic:
                    assert (handle[0].get_color(), handle[0].get_marker()) == look_of(label)
                elif label in groups:
                    assert to_rgb(handle[0].get_edgecolor()[:3]) == to_rgb(look_of(label)[0])


def test_variants_of_a_method_are_told_apart_by_lines_and_filling():
    found = styles(["disco", "ewc", "disco", "disco"])
    assert {(style.color, style.marker) for style in (found[0], found[2], found[3])} == {look_of("disco")}
    assert len({str(style.line) for style in (found[0], found[2], found[3])}) == 3
    assert found[0].face == found[0].color and found[2].face == "white"
    assert len({(style.bar_face, style.hatch) for style in (found[0], found[2], found[3])}) == 3


def test_curves_that_coincide_are_all_seen(tmp_path, figures):
    names = ("disco", "ewc", "lwf")
    plot_curves(side_by_side("custom", {name: [report(name, a=(50.0, 50.0), b=50.0)] for name in names}), tmp_path / "p.png")
    image = figures[-1].canvas.buffer_rgba()
    pixels = np.asarray(image)[..., :3].reshape(-1, 3)
    for name in names:
        color = np.array(to_rgb(look_of(name)[0])) * 255
        assert (np.abs(pixels - color).max(axis=1) < 8).sum() > 300, f"{name} is hidden by the others"
