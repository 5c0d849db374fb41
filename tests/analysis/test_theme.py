from matplotlib.figure import Figure

from mhc_repro.analysis import theme


def test_svg_has_plain_ids_and_short_coordinates() -> None:
    figure = Figure()
    figure.subplots().plot([0.0, 1 / 3, 1.0], [0.1, 2 / 3, 0.2], marker="o")
    svg = theme.to_svg(figure)
    assert 'id="id0"' in svg
    assert 'clip-path="url(#id' in svg
    assert not any(
        len(number.rpartition(".")[2]) > 2 for number in svg.split('<path d="M ')[2].split('"')[0].split()
    )
