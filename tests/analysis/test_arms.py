import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mhc_repro.command_line.compose import CONF
from mhc_repro.errors import UserError
from mhc_repro.evidence import arms, kept
from mhc_repro.runs import checkout

YAML = (checkout() / arms.FILE).read_text(encoding="utf-8")
MAIN = ("baseline", "identity", "hc", "mhc")
# what stands in one figure, each beside the baseline and mHC
FAMILIES = {
    "published": ["baseline_quarter", "published_hc", "published_mhc"],
    "main": ["identity", "hc"],
}
for arm, promise in arms.promises().items():
    FAMILIES.setdefault(promise["family"], []).append(arm)
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
    return float(np.linalg.norm(lab(arms.style(one).colour, seen) - lab(arms.style(other).colour, seen)))


def test_every_arm_there_is_has_a_style_and_promises_something() -> None:
    promised = arms.promises()
    assert list(promised) == list(arms.STYLES)  # which puts all tables in one order
    assert set(promised) == {path.stem for path in CONF.glob("connection/*.yaml")}
    for promise in promised.values():
        assert set(promise) == {"family", "paper", "constraint", "exact", "gain", "start"}


def test_arms_of_a_family_stand_together() -> None:
    families = [promise["family"] for promise in arms.promises().values()]
    assert len(list(itertools.groupby(families))) == len(set(families))


def test_variants_follow_their_arm_and_other_arms_come_last() -> None:
    given = ["zoo", "mhc, n 4", "aardvark", "hc", "mhc", "baseline"]
    assert sorted(given, key=arms.rank) == ["baseline", "hc", "mhc", "mhc, n 4", "aardvark", "zoo"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("# no arms", "expected object, got null"),
        ("a: [", "expected node content"),
        (YAML.replace("gain: [1, 4]", "gain: [1]"), "mhc.gain: expected array of length"),
        (YAML.replace("exact: yes", "exact: mostly"), "baseline.exact: expected bool | null, got str"),
    ],
)
def test_promises_that_cannot_be_read_are_refused_in_a_line(
    text: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "checkout", lambda: tmp_path)
    if text is not None:
        (tmp_path / "experiments").mkdir()
        (tmp_path / arms.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"^experiments/arms\.yaml: .*git checkout") as error:
        arms.promises()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_no_two_arms_look_the_same() -> None:
    looks = [(style.colour, style.dashes, style.marker) for style in arms.STYLES.values()]
    assert len(set(looks)) == len(looks)
    labels = [style.label for style in arms.STYLES.values()]
    assert len(set(labels)) == len(labels)
    assert "X" not in {style.marker for style in arms.STYLES.values()}  # which says that a run diverged


@pytest.mark.parametrize("family", FAMILIES)
def test_arms_shown_together_differ_in_colour_and_in_what_a_grey_print_keeps(family: str) -> None:
    together = dict.fromkeys(("baseline", "mhc", *FAMILIES[family]))
    for one, other in itertools.combinations(together, 2):
        assert difference(one, other, np.eye(3)) > 14, (one, other)
        first, second = arms.style(one), arms.style(other)
        assert (first.marker, first.dashes) != (second.marker, second.dashes), (one, other)


def test_the_main_arms_differ_in_everything_and_for_the_colour_blind() -> None:
    for one, other in itertools.combinations(MAIN, 2):
        assert arms.style(one).marker != arms.style(other).marker
        assert difference(one, other, DEUTERANOPIA) > 50, (one, other)
    assert arms.style("hc").dashes != arms.style("mhc").dashes


def test_an_unknown_arm_has_one_style_in_every_process() -> None:
    code = "from mhc_repro.evidence import arms; print(arms.style('zoo'))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == str(arms.style("zoo"))
    assert not set(arms.OTHER_COLOURS) & {style.colour for style in arms.STYLES.values()}
    names = ["mine", "mine_too", "zoo", "mhc, n 2", "mhc, n 8", "aardvark"]
    assert len({arms.style(name).colour for name in [*names, *arms.STYLES]}) == len(names) + len(arms.STYLES)


def test_a_variant_keeps_the_name_of_its_arm() -> None:
    assert arms.style("mhc, n 2").label == "mHC, n 2"
