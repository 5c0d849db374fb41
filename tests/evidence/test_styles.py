import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb

from mhc_repro import arm_files
from mhc_repro.arm_files import FAMILIES, abouts, arm_names, settings
from mhc_repro.command_line.compose import CONF
from mhc_repro.errors import UserError
from mhc_repro.evidence import styles

MAIN = ("baseline", "identity", "hc", "mhc")
# what stands in one figure, each beside the baseline and mHC
TOGETHER = {"published": ["baseline_quarter", "published_hc", "published_mhc"], "main": ["identity", "hc"]}
for name, about in abouts().items():
    TOGETHER.setdefault(about.family, []).append(name)
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
    return float(np.linalg.norm(lab(styles.style(one).colour, seen) - lab(styles.style(other).colour, seen)))


def test_every_arm_says_what_it_is():
    assert set(abouts()) == set(arm_names())


def test_arms_of_a_family_stand_together():
    families = [about.family for about in abouts().values()]
    assert [family for family, _ in itertools.groupby(families)] == list(FAMILIES)


def test_variants_follow_their_arm_and_other_arms_come_last():
    given = ["zoo", "mhc, n 4", "aardvark", "hc", "mhc", "baseline"]
    assert sorted(given, key=styles.rank) == ["baseline", "hc", "mhc", "mhc, n 4", "aardvark", "zoo"]


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("bound: [1, 4]", "bound: [1]", "about.bound: expected array of length 2, got 1"),
        ("exact: no", "exact: mostly", "about.exact: expected bool | null, got str"),
        ("family: mhc", "family: mch", "about: family 'mch' is none of control, hc, mhc, "),
        ("line: solid", "line: thick", "line 'thick' is none of solid, long, "),
        ("marker: ^", "marker: X", "marker 'X' is none of o, s, "),
        ("#0072B2", "blue", "colour 'blue' is not of the form '#0072B2'"),
        ("label: mHC", "lable: mHC", "lable"),
        ("label: mHC", "label: HC", "HC is that of hc"),
        ("about:", "about: [", "while scanning"),
        ("shared/mhc_ends@_here_", "shared/mine@_here_", "no such file"),
    ],
)
def test_a_file_that_cannot_be_understood_is_a_line(was, now, said, tmp_path, monkeypatch):
    folder = tmp_path / "connection"
    shutil.copytree(CONF / "connection", folder)
    (folder / "mhc.yaml").write_text((folder / "mhc.yaml").read_text().replace(was, now, 1))
    monkeypatch.setattr(arm_files, "folder", lambda: folder)
    with pytest.raises(UserError, match=r"^conf/connection/[\w/]+\.yaml: .*git checkout") as error:
        abouts.__wrapped__(), settings("mhc")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_arm_takes_over_what_its_file_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(arm_files, "folder", lambda: tmp_path)
    (tmp_path / "old.yaml").write_text("{n: 4, gate: tanh, mixing: {kind: free, start: [0, 1]}}")
    (tmp_path / "new.yaml").write_text("{defaults: [old, _self_], n: 2, mixing: {start: [1, 1]}}")
    assert settings("new") == {"n": 2, "gate": "tanh", "mixing": {"kind": "free", "start": [1, 1]}}


@pytest.mark.parametrize("family", TOGETHER)
def test_arms_shown_together_differ_in_colour_and_in_what_a_grey_print_keeps(family):
    together = dict.fromkeys(("baseline", "mhc", *TOGETHER[family]))
    for one, other in itertools.combinations(together, 2):
        assert difference(one, other, np.eye(3)) > 14, (one, other)
        first, second = styles.style(one), styles.style(other)
        assert (first.marker, first.dashes) != (second.marker, second.dashes), (one, other)


def test_the_main_arms_differ_in_everything_and_for_the_colour_blind():
    for one, other in itertools.combinations(MAIN, 2):
        assert styles.style(one).marker != styles.style(other).marker
        assert difference(one, other, DEUTERANOPIA) > 50, (one, other)
    assert styles.style("hc").dashes != styles.style("mhc").dashes


def test_an_unknown_arm_has_one_style_in_every_process():
    code = "from mhc_repro.evidence import styles; print(styles.style('zoo'))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == str(styles.style("zoo"))
    assert not set(styles.OTHER_COLOURS) & {about.colour for about in abouts().values()}
    names = ["mine", "mine_too", "zoo", "mhc, n 2", "mhc, n 8", "aardvark"]
    assert len({styles.style(name).colour for name in [*names, *abouts()]}) == len(names) + len(abouts())


def test_an_unknown_arm_is_far_from_the_main_ones_in_colour_and_in_hue():
    for name in ["lazy_rows", "yours", *(f"arm_{number}" for number in range(200))]:
        for main in MAIN:
            assert difference(name, main, np.eye(3)) > 35, (name, main)
        hues = [rgb_to_hsv(to_rgb(styles.style(each).colour))[0] for each in (name, "mhc")]
        apart = abs(hues[0] - hues[1])
        assert min(apart, 1 - apart) > 0.22, name  # violet is far from blue in L*a*b*, and looks like it


def test_a_variant_keeps_the_name_of_its_arm():
    assert styles.style("mhc, n 2").label == "mHC, n 2"
