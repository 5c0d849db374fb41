import itertools
import os
import subprocess
import sys

from matplotlib.figure import Figure

from mhc_repro.analysis import theme


def test_known_arms_differ_in_everything_a_grey_print_keeps() -> None:
    for one, other in itertools.combinations(theme.STYLES.values(), 2):
        assert one.colour != other.colour
        assert one.marker != other.marker
    assert theme.style("hc").dashes != theme.style("mhc").dashes


def test_an_unknown_arm_has_one_style_in_every_process() -> None:
    code = "from mhc_repro.analysis import theme; print(theme.style('kromhc'))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == str(theme.style("kromhc"))
    assert theme.style("kromhc").colour not in {style.colour for style in theme.STYLES.values()}


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
