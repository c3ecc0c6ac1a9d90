"""Pictures of means show what numpy computes, and a file is written whole or not at all."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import vggnorm
from vggnorm.cli import main
from vggnorm.files.keras_h5 import write_h5
from vggnorm.files.means_npy import save_means
from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Float64, Moments
from vggnorm.means.recipe import Recipe
from vggnorm.report.curves import kernel_density
from vggnorm.report.plot import (
    plot_before_after,
    plot_every_layer,
    plot_means,
    save_figure,
)

Make = Callable[..., FilterMeans]


@pytest.fixture
def make_means(recipe: Recipe) -> Make:
    """Make means of these numbers: `make_means(conv1=[1.0, 2.0], conv2=[3.0])`."""

    def make(network: str = "chain", **layers: list[float]) -> FilterMeans:
        mean = {layer: np.array(values) for layer, values in layers.items()}
        zeros = {layer: np.zeros_like(values) for layer, values in mean.items()}
        return FilterMeans(Moments(1234, mean, zeros), replace(recipe, network=network))

    return make


@pytest.fixture
def some(make_means: Make) -> FilterMeans:
    """Three layers. Of all filters: min 0.5, max 30, mean 72 / 8, variance 1331.5 / 8 - 81."""
    return make_means(conv1=[1.0, 2.0, 4.5], conv2=[10.0, 30.0, 15.0], conv3=[0.5, 9.0])


def area(x: Float64, y: Float64) -> float:
    return float(np.trapezoid(y, x))


def gauss(x: float, centre: float, width: float) -> float:
    return math.exp(-0.5 * ((x - centre) / width) ** 2) / (width * math.sqrt(2 * math.pi))


def scott_width(values: list[float]) -> float:
    """The bandwidth of Scott's rule in one dimension."""
    return float(np.std(values, ddof=1)) * math.pow(len(values), -1 / 5)


def lines_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def data_of(line: Line2D) -> tuple[Float64, Float64]:
    """The points of a line, x and y."""
    return np.asarray(line.get_xdata(), np.float64), np.asarray(line.get_ydata(), np.float64)


def assert_shows(line: Line2D, values: list[float], *, log: bool) -> None:
    """Require that a line is the density of these values."""
    x, density = data_of(line)
    expected_x, expected_density = kernel_density(np.array(values), log=log)
    np.testing.assert_allclose(x, expected_x)
    np.testing.assert_allclose(density, expected_density)


def assert_vertical(line: Line2D, x: float) -> None:
    """Require that a line stands at this place."""
    assert data_of(line)[0].tolist() == [x, x]


def texts_of(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


def failed(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


# The density


@pytest.mark.parametrize("log", [False, True])
def test_the_area_is_one_and_nothing_is_below_zero(log: bool) -> None:
    values = np.random.default_rng(0).lognormal(1.0, 1.5, 300)
    x, density = kernel_density(values, log=log)
    assert x.min() >= 0
    whole = area(np.log10(x) if log else x, density)
    assert whole == pytest.approx(1, abs=2e-3)  # what is beyond 3 bandwidths is missing


def test_the_density_is_a_sum_of_gaussians_reflected_at_zero() -> None:
    values = [0.0, 1.0, 4.0]
    width = scott_width(values)
    x, density = kernel_density(np.array(values))
    assert x[0] == 0
    for index in (0, 300, 1500):
        expected = sum(gauss(x[index], v, width) + gauss(-x[index], v, width) for v in values) / 3
        assert density[index] == pytest.approx(expected)


def test_on_a_logarithmic_axis_it_is_the_density_per_decade() -> None:
    values = [0.1, 10.0, 1000.0]
    width = scott_width([-1, 1, 3])  # the logarithms
    x, density = kernel_density(np.array(values), log=True)
    for index in (0, 700, 1500):
        expected = sum(gauss(math.log10(x[index]), v, width) for v in (-1, 1, 3)) / 3
        assert density[index] == pytest.approx(expected)


def test_negative_values_are_not_reflected() -> None:
    x, density = kernel_density(np.array([-3.0, 1.0, 2.0]))
    assert x[0] < -3
    assert area(x, density) == pytest.approx(1, abs=2e-3)
    width = scott_width([-3, 1, 2])
    assert density[1000] == pytest.approx(sum(gauss(x[1000], v, width) for v in (-3, 1, 2)) / 3)


# What a picture shows


def test_the_curves_are_those_of_the_layers_and_of_all(some: FilterMeans) -> None:
    axes = plot_means(some, layers=["conv2"]).axes[0]
    lines = lines_of(axes)
    assert list(lines) == ["all 3 layers (8)", "conv2 (3)"]
    every = [1.0, 2.0, 4.5, 10.0, 30.0, 15.0, 0.5, 9.0]
    for line, values in zip(lines.values(), (every, [10.0, 30.0, 15.0]), strict=True):
        assert area(*data_of(line)) == pytest.approx(1, abs=5e-3)
        assert_shows(line, values, log=False)
    assert axes.get_xlim()[0] == 0
    assert axes.get_ylim()[0] == 0
    assert axes.get_xlabel() == "mean activation of a filter"
    assert axes.get_ylabel() == "density, per unit of mean activation"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_the_box_shows_the_figures_that_numpy_computes(some: FilterMeans) -> None:
    text = texts_of(plot_means(some))
    assert "all 8 filters\nmin 0.5\nmax 30\nmean 9\nstandard deviation 9.243" in text
    assert "chain, 1,234 photos, 224 \N{MULTIPLICATION SIGN} 224, crop, bilinear" in text


def test_filters_that_never_fire(make_means: Make) -> None:
    means = make_means(conv1=[0.0, 0.0, 1.0, 10.0], conv2=[2.0, 3.0])
    assert "2 not above 0" in texts_of(plot_means(means))
    linear = lines_of(plot_means(means, layers=["conv1"]).axes[0])["conv1 (4)"]
    assert_shows(linear, [0.0, 0.0, 1.0, 10.0], log=False)
    figure = plot_means(means, layers=["conv1"], log=True)
    assert "2 not above 0, not drawn" in texts_of(figure)
    drawn = lines_of(figure.axes[0])["conv1 (4)"]
    assert_shows(drawn, [1.0, 10.0], log=True)
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_ylabel() == "density, per decade"
    assert "conv1 (4, 2 not drawn)" in texts_of(plot_every_layer(means))
    after = make_means(conv1=[0.0, 1.0, 1.0, 1.1], conv2=[1.0, 1.1])
    assert "conv1 (4, 2 and 1 not drawn)" in texts_of(plot_every_layer(means, after))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [3.0, 3.0 + 1e-12]])
def test_means_that_are_equal_are_a_line(values: list[float], log: bool, make_means: Make) -> None:
    axes = plot_means(make_means(conv1=values, conv2=[1.0, 2.0]), layers=["conv1"], log=log).axes[0]
    assert_vertical(lines_of(axes)[f"conv1 ({len(values)})"], 3.0)


def test_a_layer_where_no_filter_fires(make_means: Make, tmp_path: Path) -> None:
    means = make_means(conv1=[0.0, 0.0], conv2=[1.0, 2.0])
    for index, figure in enumerate(
        (
            plot_means(means),
            plot_means(means, log=True),
            plot_before_after(means, means),
            plot_every_layer(means, means),
        )
    ):
        save_figure(figure, tmp_path / f"{index}.png")
        assert "conv1 (2" in texts_of(figure)


def test_a_network_where_no_filter_fires(make_means: Make, tmp_path: Path) -> None:
    means, other = (
        make_means(conv1=[0.0, 0.0], conv2=[0.0]),
        make_means(conv1=[1.0, 2.0], conv2=[1.0]),
    )
    save_figure(plot_means(means), tmp_path / "linear.png")
    draws: list[Callable[[], Figure]] = [
        lambda: plot_means(means, log=True),
        lambda: plot_before_after(means),
        lambda: plot_before_after(other, means),
        lambda: plot_every_layer(means),
    ]
    for draw in draws:
        with pytest.raises(
            vggnorm.MeansError,
            match="chain, 1,234 photos.*: no filter fires, so a logarithmic axis",
        ):
            draw()


def test_a_part_that_counts_no_photos(recipe: Recipe, some: FilterMeans) -> None:
    nothing = Moments.of_none({layer: len(mean) for layer, mean in some.mean.items()})
    empty = FilterMeans(nothing, replace(recipe, shard=(5, 5), batches_per_block=8))
    draws: list[Callable[[], Figure]] = [
        lambda: plot_means(empty),
        lambda: plot_before_after(some, empty),
        lambda: plot_every_layer(empty),
    ]
    for draw in draws:
        with pytest.raises(vggnorm.MeansError, match="those of part 5 of 5; add up all parts"):
            draw()


def test_neighbouring_curves_differ_in_colour_and_dashes(make_means: Make, tmp_path: Path) -> None:
    means = make_means(**{f"conv{index}": [1.0, 2.0 + index] for index in range(20)})
    save_figure(plot_means(means, layers=list(means.mean)), tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    drawn = re.findall('style="(fill: none; [^"]*stroke-width: 1.6[^"]*)"', svg)
    styles = [dict(part.split(": ") for part in style.split("; ")) for style in drawn]
    looks = list(dict.fromkeys((one["stroke"], one.get("stroke-dasharray")) for one in styles))
    assert len(looks) == 21
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in pairwise(looks))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["block1_conv1", "block1_conv2", "block3_conv2", "block4_conv2"], [0, 2, 3]),
        (["block1_conv1", "block1_conv2"], [0]),
        (["a", "b", "c", "d", "e"], [0, 2, 4]),
        (["a", "b"], [0, 1]),
        (["a"], [0]),
    ],
)
def test_the_layers_that_are_drawn_by_default(
    layers: list[str], expected: list[int], make_means: Make
) -> None:
    means = make_means(**{layer: [1.0, 2.0] for layer in layers})
    drawn = list(lines_of(plot_means(means).axes[0]))[1:]
    assert drawn == [f"{layers[index]} (2)" for index in expected]


def test_before_and_after_stand_on_one_axis(some: FilterMeans, make_means: Make) -> None:
    after = make_means(
        "chain_norm.h5", conv1=[1.0, 0.9, 1.1], conv2=[1.2, 0.8, 1.0], conv3=[0.7, 1.0]
    )
    figure = plot_before_after(some, after, layers=["conv2"])
    upper, lower = figure.axes
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xscale() == lower.get_xscale() == "log"
    for axes, values in ((upper, [10.0, 30.0, 15.0]), (lower, [1.2, 0.8, 1.0])):
        assert_shows(lines_of(axes)["conv2 (3)"], values, log=True)
    text = texts_of(figure)
    assert "before: chain, 1,234 photos" in text
    assert "after: chain_norm.h5, 1,234 photos" in text
    assert "min 0.7\nmax 1.2\nmean 0.9625" in text


def test_without_a_measurement_a_line_shows_what_the_rule_gives(some: FilterMeans) -> None:
    (axes,) = plot_before_after(some).axes
    assert_vertical(lines_of(axes)["after, by the rule: 1"], 1)


def test_the_line_says_what_does_not_become_1(some: FilterMeans) -> None:
    # With a bound of 1, the filter with the mean 0.5 is left as it is.
    (axes,) = plot_before_after(some.with_max_scale(1)).axes
    assert_vertical(lines_of(axes)["after, by the rule: 1\n(smaller: 1)"], 1)
    recipe = replace(some.recipe, output_layers=("conv3",), keep_output=True)
    (axes,) = plot_before_after(replace(some, recipe=recipe)).axes
    assert_vertical(lines_of(axes)["after, by the rule: 1\n(not conv3)"], 1)


def test_every_layer_has_a_panel(some: FilterMeans, make_means: Make) -> None:
    after = make_means(
        "chain_norm.h5", conv1=[1.0, 0.9, 1.1], conv2=[1.2, 0.8, 1.0], conv3=[1.0, 1.0]
    )
    figure = plot_every_layer(some, after)
    assert [axes.get_title() for axes in figure.axes] == [
        "conv1 (3)",
        "conv2 (3)",
        "conv3 (2)",
        "all layers (8)",
    ]
    before_line, after_line = figure.axes[1].get_lines()
    for line, values in ((before_line, [10.0, 30.0, 15.0]), (after_line, [1.2, 0.8, 1.0])):
        x, density = data_of(line)
        expected_x, expected_density = kernel_density(np.array(values), log=True)
        np.testing.assert_allclose(x, expected_x)
        np.testing.assert_allclose(density, expected_density / expected_density.max())
    assert_vertical(figure.axes[2].get_lines()[1], 1)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    two_layers = plot_every_layer(make_means(a=[1.0, 2.0], b=[3.0, 4.0]))
    assert len(two_layers.axes) == 3  # empty places are removed


# Files


@pytest.mark.parametrize(
    ("name", "magic"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.svg", b"<?xml"),
        ("a.pdf", b"%PDF-"),
        ("A.PNG", b"\x89PNG"),
    ],
)
def test_the_ending_sets_the_format_and_the_same_figure_gives_the_same_file(
    name: str, magic: bytes, some: FilterMeans, tmp_path: Path
) -> None:
    contents = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_figure(plot_before_after(some), tmp_path / folder / name)
        contents.append((tmp_path / folder / name).read_bytes())
        assert [path.name for path in (tmp_path / folder).iterdir()] == [name]
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]
    assert b"Date" not in contents[0]


def test_the_text_of_an_svg_is_text(some: FilterMeans, tmp_path: Path) -> None:
    save_figure(plot_means(some), tmp_path / "a.svg")
    texts = {
        "".join(text.itertext())
        for text in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")
    }
    assert {
        "conv1 (3)",
        "all 3 layers (8)",
        "mean activation of a filter",
        "max 30",
        "standard deviation 9.243",
    } <= texts


def test_a_figure_that_cannot_be_drawn_leaves_nothing(
    some: FilterMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Figure, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_text("precious")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(
        vggnorm.OutputError, match=r"a\.png: could not be written: No space left on device"
    ):
        save_figure(plot_means(some), tmp_path / "a.png", force=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_the_settings_of_matplotlib_do_not_change(some: FilterMeans, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 17.0, "svg.fonttype": "path"}):
        save_figure(plot_means(some), tmp_path / "a.svg")
        assert (mpl.rcParams["font.size"], mpl.rcParams["svg.fonttype"]) == (17.0, "path")


def test_the_library_refuses_what_the_command_refuses(some: FilterMeans, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("precious")
    with pytest.raises(vggnorm.OutputError, match=r"a\.png: exists already"):
        save_figure(plot_means(some), tmp_path / "a.png")
    with pytest.raises(
        vggnorm.OutputError, match=r"a\.gif: give a name that ends in \.png, \.svg or \.pdf"
    ):
        save_figure(plot_means(some), tmp_path / "a.gif")
    assert (tmp_path / "a.png").read_text() == "precious"


# The command


@pytest.fixture
def files(some: FilterMeans, make_means: Make, tmp_path: Path) -> Path:
    """A folder with means.npy, after.npy, and norm.h5, which holds the means."""
    after = make_means("norm.h5", conv1=[1.0, 0.9, 1.1], conv2=[1.2, 0.8, 1.0], conv3=[0.7, 1.0])
    save_means(some, tmp_path / "means.npy")
    save_means(after, tmp_path / "after.npy")
    write_h5(tmp_path / "norm.h5", model_config={}, weights={}, means=some)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["means.npy"],
            ["conv1 (3)", "conv2 (3)", "conv3 (2)", "density, per unit of mean activation"],
        ),
        (["means.npy", "--log"], ["density, per decade"]),
        (["means.npy", "--layer", "conv2"], ["conv2 (3)"]),
        (["norm.h5"], ["before: chain, 1,234 photos", "after, by the rule: 1"]),
        (["norm.h5", "after.npy"], ["before: chain", "after: norm.h5"]),
        (["means.npy", "after.npy", "--every-layer"], ["all layers (8)", "after: norm.h5"]),
        (["norm.h5", "--every-layer"], ["all layers (8)"]),
    ],
)
def test_the_files_given_decide_what_is_drawn(
    arguments: list[str], expected: list[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    result = run(*arguments, "-o", "figure.svg")
    assert result.exit_code == 0, result.output
    assert result.stdout == "figure saved as figure.svg\n"
    content = Path("figure.svg").read_text()
    for text in expected:
        assert text in content
    if arguments[1:2] == ["--layer"]:
        assert "conv1" not in content


def test_an_unknown_layer(files: Path) -> None:
    output = files / "figure.png"
    text = failed(run(files / "means.npy", "--layer", "cnov2", "-o", output))
    assert text == "the means have no layer 'cnov2'; did you mean conv2 or conv3 or conv1?"
    text = failed(run(files / "means.npy", "--layer", "zzz", "-o", output))
    assert text == "the means have no layer 'zzz'; there are conv1, conv2, conv3"
    assert not output.exists()


def test_an_unknown_ending(files: Path) -> None:
    for name in ("figure.jpg", "figure"):
        text = failed(run(files / "means.npy", "-o", files / name))
        assert text == f"{files / name}: give a name that ends in .png, .svg or .pdf"


def test_an_existing_output(files: Path) -> None:
    output = files / "figure.png"
    output.write_text("precious")
    assert "figure.png: exists already" in failed(run(files / "absent.npy", "-o", output))
    assert output.read_text() == "precious"
    assert run(files / "means.npy", "-o", output, "--force").exit_code == 0
    assert output.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(files: Path, make_means: Make) -> None:
    output = "-o", files / "figure.png"
    assert "absent.npy: cannot be read" in failed(run(files / "absent.npy", *output))
    text = failed(run(files / "means.npy", files / "norm.h5", *output))
    assert "norm.h5: holds the means from before it was normalized" in text
    assert f"compute-means --network {files / 'norm.h5'}, and give" in text
    save_means(make_means(conv1=[1.0, 2.0, 3.0], conv2=[1.0]), files / "other.npy")
    text = failed(run(files / "means.npy", files / "other.npy", *output))
    assert "different networks: layer conv2 has 3 filters before and 1 after" in text
    assert "different networks" in failed(
        run(files / "means.npy", files / "other.npy", "--every-layer", *output)
    )
    save_means(
        make_means(conv1=[1.0, 2.0, 3.0], conv2=[1.0, 2.0, 3.0]), files / "other.npy", force=True
    )
    text = failed(run(files / "means.npy", files / "other.npy", *output))
    assert "different networks: layer conv3 has 2 filters before and 0 after" in text
    assert run(files / "means.npy", "--every-layer", "--layer", "conv1", *output).exit_code == 2
    assert not (files / "figure.png").exists()


def test_neither_tensorflow_nor_pyplot_is_imported(files: Path) -> None:
    program = (
        "import sys; from vggnorm.cli import main; main(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'torch', 'jax', 'matplotlib.pyplot'} & "
        "set(sys.modules), 'imported'"
    )
    arguments = ["plot", *(str(files / name) for name in ("norm.h5", "after.npy"))]
    arguments += ["-o", str(files / "figure.png")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
