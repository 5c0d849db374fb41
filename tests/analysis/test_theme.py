import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from mhc_repro.analysis import theme


def test_svg_has_plain_ids_and_short_coordinates():
    figure = Figure()
    figure.subplots().plot([0.0, 1 / 3, 1.0], [0.1, 2 / 3, 0.2], marker="o")
    svg = theme.to_svg(figure)
    assert 'id="id0"' in svg
    assert 'clip-path="url(#id' in svg
    numbers = svg.split('<path d="M ')[2].split('"')[0].split()
    assert not any(len(number.rpartition(".")[2]) > 2 for number in numbers)


def test_a_users_own_settings_draw_nothing():
    @theme.styled
    def draw() -> Figure:
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [1, 10], label="a")
        axes.set_yscale("log")
        axes.legend()
        return figure

    def drawn() -> tuple[str, bytes]:
        return theme.to_svg(draw()), theme.to_png(draw())

    plain = drawn()
    styled = {
        "text.usetex": True,
        "mathtext.fontset": "stix",
        "lines.linewidth": 7,
        "axes.prop_cycle": cycler(color=["k"]),
        "axes.edgecolor": "r",
        "figure.dpi": 300,
        "savefig.bbox": "tight",
        "path.sketch": (1, 100, 2),
        "ytick.direction": "in",
    }
    with matplotlib.rc_context(styled):
        own = dict(matplotlib.rcParams)
        assert drawn() == plain
        assert dict(matplotlib.rcParams) == own
