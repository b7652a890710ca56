import numpy as np
import pytest
import torch

from references import codes as reference
from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.codebook import Codebook, Uses, perplexity, straight_through


def rows(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codebook(count=7, dim=3, seed=0, **more):
    torch.manual_seed(seed)
    return Codebook(count, dim, **more).double()


def use(book, z):
    return book.uses(z, book.nearest(z))


def test_the_nearest_code_equals_the_reference():
    book, z = codebook(), rows(2, 4, 5, 3)
    found = book.nearest(z)
    assert found.shape == (2, 4, 5)
    expected = reference.nearest(z.flatten(0, 2).numpy(), book.vectors.detach().numpy())
    np.testing.assert_array_equal(found.flatten().numpy(), expected)
    assert torch.equal(book(found), book.vectors[found])


def test_the_nearest_code_is_found_in_single_precision():
    book = Codebook(2, 1)
    with torch.no_grad():
        book.vectors.copy_(torch.tensor([[100.0], [100.1]]))  # one number in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert book.nearest(torch.tensor([[100.09], [100.01]])).tolist() == [1, 0]


def test_the_averages_equal_the_papers():
    book = codebook(decay=0.9)
    book.sizes.copy_(torch.arange(1.0, 8.0))
    sizes = book.sizes.numpy().copy()
    sums = sizes[:, None] * book.vectors.numpy()
    for step in range(4):
        z = rows(40, 3, seed=step)
        ids = book.nearest(z)
        sizes, sums, vectors = reference.codebook_average(sizes, sums, z.numpy(), ids.numpy(), 0.9)
        book.update(book.uses(z, ids))
        np.testing.assert_allclose(book.vectors.numpy(), vectors, rtol=1e-9)
        np.testing.assert_allclose(book.sizes.numpy(), sizes, rtol=1e-9)


def test_the_first_batch_places_the_codes_that_it_uses():
    book, z = codebook(decay=0.99), rows(20, 3)
    ids, before = book.nearest(z), book.vectors.clone()
    book.update(book.uses(z, ids))
    for k in range(7):
        own = z[ids == k]
        torch.testing.assert_close(book.vectors[k], own.mean(0) if len(own) else before[k])


def test_averages_settle_on_the_means_of_what_they_stand_for():
    book, z = codebook(decay=0.5), rows(100, 3)
    for _ in range(200):
        book.update(use(book, z))
    ids = book.nearest(z)
    for k in ids.unique():
        torch.testing.assert_close(book.vectors[k], z[ids == k].mean(0))


def test_only_an_update_moves_the_averages():
    book, z = codebook(decay=0.9), rows(40, 3)
    before = book.vectors.clone()
    uses = use(book, z)
    assert torch.equal(book.vectors, before)
    assert not list(book.parameters())
    book.update(uses)
    assert not torch.equal(book.vectors, before)


def test_without_a_decay_only_a_gradient_moves_the_vectors():
    book, z = codebook(), rows(40, 3)
    before = {n: x.clone() for n, x in book.state_dict().items()}
    book.update(use(book, z))
    for name, value in book.state_dict().items():
        assert torch.equal(value, before[name])
    assert [p.shape for p in book.parameters()] == [(7, 3)]


def test_codes_out_of_use_begin_anew_at_rows_of_the_batch():
    book, z = codebook(decay=0.9, restart=0.5), rows(70, 3)
    book.vectors[2:] = 1e3  # two codes are in use
    book.sizes.fill_(1.0)
    uses = use(book, z)
    assert (uses.counts > 0).tolist() == [True] * 2 + [False] * 5
    book.update(uses)
    assert (book.vectors.abs() < 10).all()
    for vector in book.vectors[2:]:
        assert (vector == z).all(dim=1).any()
    for vector in book.vectors[:2]:
        assert not (vector == z).all(dim=1).any()
    even = 0.9 * 1 + 0.1 * 10  # of the averages: 70 rows of seven codes, after one row each
    torch.testing.assert_close(book.sizes[2:], torch.full((5,), 0.5 * even).double())
    assert (use(book, z).counts > 0).sum() > 2


def test_the_first_batch_restarts_only_what_it_hardly_uses():
    book, z = codebook(decay=0.99, restart=0.2), rows(70, 3)
    book.vectors[4:] = 1e3
    ids = book.nearest(z)
    counts = ids.bincount(minlength=7)
    book.update(book.uses(z, ids))
    kept = counts >= 0.2 * 10
    assert kept.sum() >= 3
    for k in range(7):
        if kept[k]:
            torch.testing.assert_close(book.vectors[k], z[ids == k].mean(0))
        else:
            assert (book.vectors[k] == z).all(dim=1).any()
    assert (use(book, z).counts > 0).sum() > kept.sum()


def test_what_is_an_even_use_does_not_depend_on_how_long_was_trained():
    """Codes of the same use stay, from the first batch to the hundredth."""
    book = codebook(count=4, decay=0.99, restart=0.3)
    z = torch.eye(3, dtype=torch.float64).repeat(8, 1)
    book.vectors.copy_(torch.cat([torch.eye(3), torch.full((1, 3), -9.0)]))
    for _ in range(100):
        book.update(use(book, z))
        torch.testing.assert_close(book.vectors[:3], torch.eye(3).double())
        assert (book.vectors[3] == z).all(dim=1).any()


def test_no_row_is_drawn_twice_where_there_are_enough():
    book, z = codebook(), rows(8, 3)
    assert len(use(book, z).drawn.unique(dim=0)) == 7
    assert len(use(book, z[:4]).drawn.unique(dim=0)) == 4


def test_without_a_restart_a_code_out_of_use_stays_and_is_finite():
    book = codebook(decay=0.1)
    book.vectors[3] = 1e3
    book.sizes.fill_(1.0)
    for step in range(400):  # long enough for its size to vanish
        book.update(use(book, rows(20, 3, seed=step)))
    assert book.sizes[3] == 0
    assert (book.vectors[3] == 1e3).all()
    assert torch.isfinite(book.vectors).all()


def test_two_processes_use_it_as_one_does(monkeypatch):
    book, z = codebook(), rows(12, 3)
    ids = book.nearest(z)
    torch.manual_seed(3)
    one = book.uses(z, ids)
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "gather", lambda x: z)
    totals = iter([one.counts, one.sums])
    mine = []
    monkeypatch.setattr(dist, "total", lambda x: (mine.append(x), next(totals))[1])
    torch.manual_seed(3)
    two = book.uses(z[:6], ids[:6])
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)
    assert mine[0].sum() == 6
    torch.testing.assert_close(mine[1].sum(0), z[:6].sum(0))
    assert all((row == z).all(dim=1).any() for row in one.drawn)


def test_half_precision_is_widened():
    book, z = Codebook(7, 3, decay=0.9), rows(40, 3).bfloat16()
    uses = use(book, z)
    assert {x.dtype for x in uses} == {torch.float32}
    book.update(uses)
    assert book.vectors.dtype == torch.float32


def test_the_gradient_goes_straight_through():
    z, q = rows(4, 3).requires_grad_(), rows(4, 3, seed=1).requires_grad_()
    weight = rows(4, 3, seed=2)
    y = straight_through(z, q)
    torch.testing.assert_close(y, q)
    (y.square() * weight).sum().backward()
    assert q.grad is None
    torch.testing.assert_close(z.grad, 2 * q.detach() * weight)  # taken at q, not at z


def test_the_perplexity_equals_the_reference():
    ids = torch.randint(0, 9, (100,), generator=torch.Generator().manual_seed(0)) ** 2 // 9
    counts = torch.bincount(ids, minlength=12).double()
    assert perplexity(counts).item() == pytest.approx(reference.perplexity(ids.numpy(), 12))
    assert perplexity(torch.tensor([5.0, 0.0, 5.0])) == pytest.approx(2)


def test_uses_count_every_row_once():
    book, z = codebook(), rows(2, 4, 4, 3)
    uses = use(book, z)
    assert isinstance(uses, Uses)
    assert uses.counts.sum() == 32
    torch.testing.assert_close(uses.sums.sum(0), z.sum((0, 1, 2)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"count": 1}, "--codes"),
        ({"dim": 0}, "--dim"),
        ({"decay": 1.0}, "--decay"),
        ({"decay": 0.9, "restart": 1.0}, "--restart"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        codebook(**settings)
