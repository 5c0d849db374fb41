import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mhc_repro.analysis import theme

CONF = Path(__file__).parents[2] / "conf"


MAIN = ("baseline", "identity", "hc", "mhc")
# what stands in one figure, each beside the baseline and mHC
FAMILIES = {
    "controls": "baseline_quarter identity uniform random_mixing",
    "hc": "hc hc_original hc_static published_hc",
    "mhc": "mhc_implicit mhc_static mhc_lss mhc_uniform mhc_lite_baseline mhc_lucidrains mhc_warm "
    "mhc_tokenbender published_mhc",
    "exact": "mhc_lite mhc_lite_paper kromhc kromhc_paper go_mhc tbp tbp_paper",
    "others": "identity_mix identity_mix_tokenbender row_stochastic orthogonal jpmhc orthostochastic "
    "orthostochastic_tokenbender",
    "histories": "history history_detached history_simplex",
    "published": "baseline_quarter published_hc published_mhc",
    "main": "identity hc",
}
# linear light of a deuteranope, from that of others (Machado, Oliveira and Fernandes 2009)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour, after its linear light went through a matrix."""
    light = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    light = np.clip(seen @ light, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (
        np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in to_xyz @ light / (0.9505, 1, 1.089)
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, seen: np.ndarray) -> float:
    return float(np.linalg.norm(lab(theme.style(one).colour, seen) - lab(theme.style(other).colour, seen)))


def test_every_arm_there_is_has_a_style_of_its_own() -> None:
    assert set(theme.STYLES) == {path.stem for path in CONF.glob("connection/*.yaml")}
    assert {"baseline", "mhc"}.union(*(family.split() for family in FAMILIES.values())) == set(theme.STYLES)


def test_no_two_arms_look_the_same() -> None:
    looks = [(style.colour, style.dashes, style.marker) for style in theme.STYLES.values()]
    assert len(set(looks)) == len(looks)
    labels = [style.label for style in theme.STYLES.values()]
    assert len(set(labels)) == len(labels)
    assert "X" not in {style.marker for style in theme.STYLES.values()}  # which says that a run diverged


@pytest.mark.parametrize("family", FAMILIES)
def test_arms_shown_together_differ_in_colour_and_in_what_a_grey_print_keeps(family: str) -> None:
    together = dict.fromkeys(("baseline", "mhc", *FAMILIES[family].split()))
    for one, other in itertools.combinations(together, 2):
        assert difference(one, other, np.eye(3)) > 14, (one, other)
        first, second = theme.style(one), theme.style(other)
        assert (first.marker, first.dashes) != (second.marker, second.dashes), (one, other)


def test_the_main_arms_differ_in_everything_and_for_the_colour_blind() -> None:
    for one, other in itertools.combinations(MAIN, 2):
        assert theme.style(one).marker != theme.style(other).marker
        assert difference(one, other, DEUTERANOPIA) > 50, (one, other)
    assert theme.style("hc").dashes != theme.style("mhc").dashes


def test_an_unknown_arm_has_one_style_in_every_process() -> None:
    code = "from mhc_repro.analysis import theme; print(theme.style('zoo'))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == str(theme.style("zoo"))
    assert not set(theme.OTHER_COLOURS) & {style.colour for style in theme.STYLES.values()}
    assert theme.style("zoo").colour in theme.OTHER_COLOURS


def test_a_variant_keeps_the_name_of_its_arm() -> None:
    assert theme.style("mhc, n 2").label == "mHC, n 2"


def test_svg_has_plain_ids_and_short_coordinates() -> None:
    figure = Figure()
    figure.subplots().plot([0.0, 1 / 3, 1.0], [0.1, 2 / 3, 0.2], marker="o")
    svg = theme.to_svg(figure)
    assert 'id="id0"' in svg
    assert 'clip-path="url(#id' in svg
    assert not any(
        len(number.rpartition(".")[2]) > 2 for number in svg.split('<path d="M ')[2].split('"')[0].split()
    )
