"""Figures 2 and 4: samples are the result files' own, pixel by pixel and point by point."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import AxesImage

from paper_figs.drawing import panels, sample_panels, style
from tests.paper_figs import study as made
from tests.paper_figs.drawing import Data, computed, drawn, words


@pytest.mark.parametrize(("name", "bits"), [("figure_2", (8, 4)), ("figure_4", (32, 8))])
def test_pictures_are_the_grids_first_samples_pixel_by_pixel(name: str, bits: tuple[int, int], results: Path) -> None:
    made.write(results / "ours", radii=(0.01, 0.1))
    data = computed(name)
    column = data["columns"]["fashion-mnist"]
    shown = {"ADM": "run-0", "IP": "run-1", "SAM, $\\rho$ = 0.1": "run-3"}
    shown["SAM, $\\rho$ = 0.01"] = "run-2"
    figure = drawn(name, data)
    images = [axes for axes in figure.axes if axes.findobj(AxesImage)]
    assert len(images) == 2 * len(shown)
    assert list(column["panels"]) == [str(width) for width in bits]
    places = [(width, label) for width in bits for label in shown]
    for (width, label), axes in zip(places, images, strict=True):
        assert list(column["panels"][str(width)]) == list(shown)
        (image,) = axes.images
        pixels: Any = image.get_array()
        assert pixels.shape[:2] == (4 * 16 + 3 * 2,) * 2
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        run = shown[label]
        assert grey[0, 0] == made.grey(run, width)
        assert grey[-1, 0] == made.grey(run, width) + 3  # the fourth row, first column
        assert grey[0, -1] == made.grey(run, width) + 24
        assert grey[16, 0] == 255  # between the first two
        assert image.get_interpolation() == "nearest"
        assert axes.get_title(loc="left") == label


def test_rgb_grids_keep_their_colours(results: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with style.applied():
        for image in (colours, colours[..., 0]):
            axes = style.figure(2.0).subplots()
            panels.picture(axes, json.loads(json.dumps(panels.pixels(image))))
            np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), image)


def test_toy_points_are_those_of_the_file(results: Path, toy: Data) -> None:
    for name, bits in (("figure_2", ("8", "4")), ("figure_4", ("32", "8"))):
        column = computed(name)["columns"]["toy"]["panels"]
        for width in bits:
            for base in ("adm", "sam"):
                cloud = toy["series"][f"learnt/{base}"]["samples"][width]
                assert column[width][base.upper()]["points"] == cloud


def test_points_out_of_sight_are_counted(results: Path) -> None:
    data = computed("figure_2")
    data["columns"]["toy"]["panels"]["8"]["ADM"]["points"] = [[0.0, 0.0], [9.0, 0.0], [0.0, -9.0]]
    assert "ADM, 2 out" in words(drawn("figure_2", data))


def test_a_file_that_is_no_grid_is_named(results: Path) -> None:
    folder = made.write(results / "ours")
    path = folder / "samples" / "run-0-T20-8bit.png"
    whole = path.read_bytes()
    for content, message in ((b"nothing", "cannot be read as a PNG"), (whole[:200], "cannot be read as a PNG")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"run-0-T20-8bit.png {message}"):
            computed("figure_2")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"run-0-T20-8bit.png is 142 x 142 pixels; allowed: 78 x 78"):
        sample_panels.crop(path, 8)


def test_the_title_says_how_much_pixels_change(results: Path) -> None:
    one = panels.pixels(np.full((4, 4), 100, np.uint8))
    other = panels.pixels(np.full((4, 4), 151, np.uint8))
    columns = {"ours": {"panels": {"8": {"ADM": one, "IP": one}, "4": {"ADM": other, "IP": one}}}}
    assert "change by 0.0% to 20.0% of the grey scale" in sample_panels.title(columns, (8, 4))
