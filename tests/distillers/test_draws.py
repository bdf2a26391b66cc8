import torch

from kdframe.distillers.draws import MASK, scrambled, spans


def test_no_place_comes_twice_where_there_are_enough() -> None:
    for total, count in ((7, 7), (100, 33), (5, 2)):
        places = spans(torch.arange(50), torch.full((50,), total), count)
        assert places.shape == (50, count)
        assert all(
            len(set(row)) == count and set(row) <= set(range(total)) for row in places.tolist()
        )


def test_with_too_few_places_each_comes_about_as_often() -> None:
    places = spans(torch.arange(50), torch.full((50,), 3), 10)
    assert all(sorted(row.count(i) for i in range(3)) == [3, 3, 4] for row in places.tolist())


def test_each_place_is_as_likely_as_another() -> None:
    places = spans(torch.arange(6000), torch.full((6000,), 10), 4)
    counts = places.flatten().bincount(minlength=10)  # 2400 each; a standard deviation is 38
    assert (counts - 2400).abs().max() < 5 * 38


def test_rows_have_their_own_totals() -> None:
    places = spans(torch.arange(40), torch.tensor([1, 2, 5, 1000] * 10), 3)
    assert (places.amax(dim=1) < torch.tensor([1, 2, 5, 1000] * 10)).all()
    assert len({tuple(row) for row in places[3::4].tolist()}) == 10


def test_scrambled_numbers_are_other_numbers_below_2_to_the_32() -> None:
    x = torch.cat((torch.arange(10000), MASK - torch.arange(10000)))
    y = scrambled(x)
    assert len(y.unique()) == len(x)
    assert y.min() >= 0
    assert y.max() <= MASK
    assert abs(y.double().mean().item() / MASK - 0.5) < 0.02
    # the hash as a loop over Python's own integers
    z = 12345
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        z = (z ^ z >> shift) * factor % 2**32
    assert scrambled(torch.tensor(12345)).item() == z ^ z >> 15
