"""Where things lie in a chart: ticks are round, places are in the frame, colours mean values."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from kdframe.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Curve,
    Point,
    bars,
    decades,
    line_chart,
    packed,
    picture,
    scale,
    scatter,
    short,
    smaller,
    steps,
    thinned,
)


def test_ticks_are_round() -> None:
    assert steps(0, 100) == [0, 20, 40, 60, 80, 100]
    assert steps(-0.13, 0.31) == [-0.1, 0, 0.1, 0.2, 0.3]
    assert decades(0, 2) == [1, 2, 5, 10, 20, 50, 100]
    assert decades(0, 8) == [1, 100, 10_000, 1_000_000, 100_000_000]


def test_a_scale_of_one_value_has_room() -> None:
    one = scale([7.0, 7.0], 0, 100)
    assert one.place(7.0) == 50
    assert all(0 <= place <= 100 for place, _ in one.ticks) and one.ticks


def test_numbers_are_short() -> None:
    shown = [short(x) for x in (0.05, 1, 1500, 20_812, 1_500_000, 12e9, 3e12)]
    assert shown == ["0.05", "1", "1500", "20.81k", "1.5M", "12G", "3T"]


def test_a_curve_runs_from_corner_to_corner() -> None:
    chart = line_chart([Curve("a", [1, 2, 3], [0.0, 5.0, 10.0], [0.0, 0.0, 0.0])])
    start, _, end = chart["series"][0]["line"][1:].split("L")
    assert float(start.split()[0]) == LEFT
    assert float(end.split()[0]) == WIDTH - RIGHT
    assert TOP <= float(end.split()[1]) < float(start.split()[1]) <= HEIGHT - BOTTOM
    assert chart["series"][0]["band"] == ""
    assert chart["data"]["series"][0]["s"] == []


def test_a_logarithmic_axis_only_where_all_is_above_0() -> None:
    above = Curve("a", [1, 2, 3], [1.0, 10.0, 100.0], [0.0] * 3)
    places = [y for y, _ in line_chart([above], log=True)["y_ticks"]]
    assert len(places) >= 3
    middle = float(line_chart([above], log=True)["series"][0]["line"].split("L")[1].split()[1])
    assert middle == pytest.approx((TOP + HEIGHT - BOTTOM) / 2, abs=0.2)
    below = Curve("b", [1, 2], [-1.0, 1.0], [0.0] * 2)
    assert line_chart([above, below], log=True)["y_ticks"]


def test_a_band_ends_where_it_does_and_at_the_frame() -> None:
    """On a logarithmic axis from 1 to 100: 20 is 65 % of the way, 1 - 2 nowhere."""
    curve = Curve("a", [1, 2, 3], [1.0, 100.0, 100.0], [2.0, 80.0, 0.0])
    (series,) = line_chart([curve], log=True)["series"]
    bottom, top, _ = (float(p.split()[1]) for p in series["line"][1:].split("L"))
    band = [float(place.split()[1]) for place in series["band"][1:-1].split("L")]
    assert band[1] >= TOP and band[3] == top and band[5] == HEIGHT - BOTTOM
    assert band[4] == pytest.approx(bottom + math.log(20, 100) * (top - bottom), abs=0.2)


def test_a_long_curve_keeps_its_ends() -> None:
    curve = Curve("a", list(range(1000)), list(range(1000)), [0.0] * 1000)
    kept = thinned(curve, 200)
    assert len(kept.x) == 200 and (kept.x[0], kept.x[-1]) == (0, 999)


def test_points_with_their_spread_stay_inside() -> None:
    chart = scatter([Point("a", 10, 50, 5), Point("b", 1000, 90, 1)])
    for mark in chart["marks"]:
        assert LEFT < mark["x"] < WIDTH - RIGHT
        assert TOP < mark["high"] < mark["y"] < mark["low"] < HEIGHT - BOTTOM


def test_bars_go_left_and_right_of_0() -> None:
    values = [("a", 4.0), ("b", -2.0)]
    chart = bars(values, values)
    up, down = chart["bars"]
    assert up["x"] == chart["zero"] == down["x"] + down["width"]
    assert up["width"] == pytest.approx(2 * down["width"], abs=0.2)


def test_a_picture_is_blue_white_and_red() -> None:
    uri = picture([[-1.0, 0.0], [0.5, 1.0]], 1.0)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert pixels.shape == (2, 2, 3)
    assert abs(pixels[0, 0] - (33, 102, 172)).max() < 8
    assert pixels[0, 1].min() > 248
    assert abs(pixels[1, 1] - (178, 24, 43)).max() < 8
    assert pixels[1, 1, 1] < pixels[1, 0, 1] < 255


def test_values_come_back_from_their_bytes() -> None:
    square = [[-0.5, 0.25], [0.0, 0.5]]
    found = np.frombuffer(base64.b64decode(packed(square, 0.5)), dtype=np.int8) / 127 * 0.5
    np.testing.assert_allclose(found.reshape(2, 2), square, atol=0.5 / 127)


def test_a_smaller_map_has_the_means() -> None:
    square = np.arange(25.0).reshape(5, 5)
    assert smaller(square.tolist(), 5) == square.tolist()
    found = smaller(square.tolist(), 2)
    assert found[0][0] == square[:2, :2].mean() and found[1][0] == square[2:, :2].mean()
