import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from selftaught import dist, seeds
from selftaught.data import batches as module
from selftaught.data.batches import Readers, batches, index, order, plain
from selftaught.data.images import ArrayImages, open_images
from selftaught.errors import UserError

# Python 3.12 and later warn of fork in a process with threads, as DataLoader has it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Corner(NamedTuple):
    top: torch.Tensor  # (n,)
    left: torch.Tensor  # (n,)
    gain: torch.Tensor  # (n,)


class Corners:
    """Two random 4x4 corners of each image, brightened in `apply`; notes who calls what."""

    def __init__(self):
        self.applied_in = set()

    def draw(self, generator, n):
        def number(high):
            return torch.randint(high, (n,), generator=generator)

        return [Corner(number(3), number(3), torch.rand(n, generator=generator)) for _ in range(2)]

    def crop(self, images, parameters):
        return [
            torch.stack(
                [
                    image[:, t : t + 4, left : left + 4]
                    for image, t, left in zip(images, p.top, p.left, strict=True)
                ]
            )
            for p in parameters
        ]

    def apply(self, crops, parameters):
        self.applied_in.add(os.getpid())
        assert all(x.dtype == torch.uint8 for x in crops)
        pairs = zip(crops, parameters, strict=True)
        return tuple(x.float() * p.gain[:, None, None, None] for x, p in pairs)


class Whole:
    """The image as it is, in [0, 1]."""

    def draw(self, generator, n):
        return torch.zeros(n)

    def crop(self, images, parameters):
        assert len(images) == len(parameters)
        return [images if isinstance(images, torch.Tensor) else torch.stack(list(images))]

    def apply(self, crops, parameters):
        return (crops[0].float() / 255,)


def pixels(n=23):
    x = torch.randint(0, 256, (n, 3, 6, 6), dtype=torch.uint8, generator=seeds.generator(0, "x"))
    return ArrayImages(x, "x")


def files(root, n=12, broken=()):
    for i in range(n):
        Image.new("RGB", (7, 6), (i, 2 * i, 3 * i)).save(root / f"{i:02}.png")
    for i in broken:
        (root / f"{i:02}.png").write_bytes(b"<html>")
    return open_images(root)


def taken(images, start, stop, *, workers=0, later=0, views=None, seed=1, batch_size=5):
    views = views or Corners()
    found = batches(
        *(images, views),
        batch_size=batch_size,
        seed=seed,
        start=start,
        stop=stop,
        readers=Readers(workers, later),
    )
    return list(found)


def same(left, right):
    """Bit for bit: views, index and what was skipped."""
    assert len(left) == len(right)
    for (a, skipped), (b, also_skipped) in zip(left, right, strict=True):
        assert torch.equal(a.index, b.index)
        assert skipped == also_skipped
        assert all(type(item) is tuple for item in also_skipped)
        assert len(a.views) == len(b.views) == 2
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


# Order


def test_order_is_a_permutation_fresh_each_epoch_and_seed():
    assert order(100, 1, 0).sort().values.tolist() == list(range(100))
    assert torch.equal(order(100, 1, 3), order(100, 1, 3))
    for other in (order(100, 1, 1), order(100, 2, 0)):
        assert not torch.equal(order(100, 1, 0), other)


def test_an_epoch_is_full_batches_of_one_permutation():
    for epoch in range(3):
        steps = [index(23, 5, 1, 4 * epoch + k) for k in range(4)]
        assert [len(step) for step in steps] == [5] * 4
        assert torch.equal(torch.cat(steps), order(23, 1, epoch)[:20])
    assert index(5, 5, 1, 7).sort().values.tolist() == list(range(5))


def test_writing_to_an_order_or_an_index_does_no_harm():
    first = index(23, 5, 1, 0).clone()
    order(23, 1, 0).zero_()
    index(23, 5, 1, 0).zero_()
    assert torch.equal(index(23, 5, 1, 0), first)


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_a_batch_that_does_not_fit_is_refused_at_once(batch_size):
    with pytest.raises(UserError, match=f"a batch of {batch_size} does not fit 23 .* 1 to 23"):
        batches(pixels(), Corners(), batch_size=batch_size, seed=1, start=0, stop=9)


# Batches


def test_views_are_drawn_from_seed_and_step():
    images, views = pixels(), Corners()
    (batch, skipped), *_ = taken(images, 6, 8)
    assert torch.equal(batch.index, index(23, 5, 1, 6))
    assert skipped == []
    parameters = views.draw(seeds.generator(1, "views", 6), 5)
    expected = views.apply(views.crop(images.x[batch.index], parameters), parameters)
    assert all(torch.equal(x, y) for x, y in zip(batch.views, expected, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_each_process_has_its_rows_of_the_batch(monkeypatch, workers):
    whole, images = taken(pixels(), 3, 6), pixels()
    monkeypatch.setattr(dist, "world_size", lambda: 5)
    for rank in range(5):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        for (mine, _), (batch, _) in zip(taken(images, 3, 6, workers=workers), whole, strict=True):
            assert torch.equal(mine.index, batch.index[rank : rank + 1])
            for x, y in zip(mine.views, batch.views, strict=True):
                assert torch.equal(x, y[rank : rank + 1])


def test_any_start_gives_the_same_batches():
    whole = taken(pixels(), 0, 10)
    for start in (1, 4, 9):
        same(whole[start:], taken(pixels(), start, 10))
    assert not torch.equal(whole[0][0].views[0], taken(pixels(), 0, 1, seed=2)[0][0].views[0])
    assert taken(pixels(), 4, 4) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(tmp_path, workers):
    folder = files(tmp_path, broken=(2, 7, 8))
    for images in (pixels(), folder):
        same(taken(images, 3, 10), taken(images, 3, 10, workers=workers))


def test_broken_images_are_replaced_and_reported(tmp_path):
    images = files(tmp_path, broken=(2, 7, 8))
    found = taken(images, 0, 2)
    used = torch.cat([batch.index for batch, _ in found])
    wanted = torch.cat([index(12, 5, 1, step) for step in (0, 1)])
    stand_ins = {2: 3, 7: 9, 8: 9}
    assert used.tolist() == [stand_ins.get(i, i) for i in wanted.tolist()]
    reported = {name for _, skipped in found for name, _ in skipped}
    assert reported == {f"{i:02}.png" for i in wanted.tolist() if i in stand_ins} | (
        {"08.png"} if 7 in wanted.tolist() else set()
    )


def test_the_global_generator_is_never_touched(tmp_path):
    images = files(tmp_path)
    before = torch.get_rng_state()
    for workers in (0, 2):
        taken(images, 0, 3, workers=workers)
    list(plain(images, Whole(), 5))
    assert torch.equal(torch.get_rng_state(), before)


class Crowd(Corners):
    """Crops that tell the process they were made in, and its number of torch threads."""

    def crop(self, images, parameters):
        place = torch.tensor([os.getpid() >> s & 255 for s in (0, 8, 16)], dtype=torch.uint8)
        threads = torch.tensor([torch.get_num_threads()], dtype=torch.uint8)
        return [torch.cat([place, threads]).expand(5, 4)[:, :, None, None]] * 2

    def apply(self, crops, parameters):
        self.applied_in.add(os.getpid())
        return tuple(crops)


def test_workers_crop_on_one_thread_and_the_process_applies():
    views = Crowd()
    found = taken(pixels(), 0, 6, workers=2, views=views)
    assert views.applied_in == {os.getpid()}
    rows = {tuple(batch.views[0][0].flatten().tolist()) for batch, _ in found}
    here = tuple(os.getpid() >> s & 255 for s in (0, 8, 16))
    assert len(rows) == 2
    assert here not in {row[:3] for row in rows}
    assert {row[3] for row in rows} == {1}


def workers_of(found):
    """The process that cropped each batch of a Crowd."""
    rows = [batch.views[0][0].flatten().tolist()[:3] for batch, _ in found]
    return [sum(byte << shift for byte, shift in zip(row, (0, 8, 16), strict=True)) for row in rows]


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still unless it is moved."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(("reading", "slow"), [(1.0, True), (0.25, False)])
def test_workers_begin_where_reading_takes_long(clock, reading, slow):
    class Timed(Crowd):
        def crop(self, images, parameters):
            clock[0] += reading
            return super().crop(images, parameters)

    options = {"batch_size": 5, "seed": 1, "start": 0, "stop": 20, "readers": Readers(later=2)}
    found = []
    for batch in batches(pixels(), Timed(), **options):
        found.append(batch)
        clock[0] += 1000.0 if len(found) == 1 else 4.0  # training; its first step takes longer
    processes = workers_of(found)
    first = module.TRIED + 1
    assert set(processes[:first]) == {os.getpid()}
    assert len(set(processes[first:]) - {os.getpid()}) == (2 if slow else 0)


def test_batches_are_the_same_where_workers_begin_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLOW", -1.0)
    for images in (pixels(), files(tmp_path, broken=[2, 7])):
        same(taken(images, 3, 23), taken(images, 3, 23, later=2))


def test_what_is_left_is_read_here_when_such_a_worker_dies(monkeypatch):
    monkeypatch.setattr(module, "SLOW", -1.0)
    views = Deadly(os.getpid(), call=module.TRIED + 4)
    expected, before = taken(pixels(), 0, 40), set(multiprocessing.active_children())
    with pytest.warns(UserWarning, match=r"a loader worker died .* goes on without workers"):
        found = taken(pixels(), 0, 40, later=2, views=views)
    same(found, expected)
    assert set(multiprocessing.active_children()) <= before


# an iterator of PyTorch's that was never whole complains as it goes
@pytest.mark.filterwarnings("ignore:Exception ignored in.*_MultiProcessingDataLoaderIter")
def test_reading_goes_on_where_no_worker_can_be_started(monkeypatch):
    monkeypatch.setattr(module, "SLOW", -1.0)
    before, start, begun = set(multiprocessing.active_children()), BaseProcess.start, []

    def limited(process):
        begun.append(process)
        if len(begun) > 1:
            raise BlockingIOError("resource temporarily unavailable")
        start(process)

    monkeypatch.setattr(BaseProcess, "start", limited)
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.warns(UserWarning, match=r"no loader worker can be started .* without workers"):
        found = taken(pixels(), 0, 30, later=2)
    same(found, taken(pixels(), 0, 30))
    assert len(begun) == 2
    begun[0].join(60)
    assert set(multiprocessing.active_children()) <= before
    assert signal.getsignal(signal.SIGCHLD) is handler
    with pytest.raises(UserError, match="no loader worker can be started"):
        taken(pixels(), 0, 30, workers=1)


def test_workers_that_hand_nothing_over_are_given_up(monkeypatch):
    class Stuck(Corners):
        def crop(self, images, parameters):
            if os.getpid() != here:
                signal.pause()
            return super().crop(images, parameters)

    here = os.getpid()
    monkeypatch.setattr(module, "SLOW", -1.0)
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with pytest.warns(UserWarning, match="timed out"):
        found = taken(pixels(), 0, 12, later=1, views=Stuck())
    same(found, taken(pixels(), 0, 12))


class Disk(NamedTuple):
    free: int


@pytest.mark.parametrize(("free", "workers"), [(10**9, 2), (1, 1), (0, 0)])
def test_there_are_no_more_workers_than_memory_to_hand_batches_over(
    monkeypatch, tmp_path, free, workers
):
    monkeypatch.setattr(module, "SLOW", -1.0)
    monkeypatch.setattr(module, "SHARED", tmp_path)
    batch = 5 * 4 * 2  # bytes of a Crowd's
    room = 2 * module.HELD * batch * free
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Disk(room))
    found = workers_of(taken(pixels(), 0, 40, later=2, views=Crowd()))
    assert len(set(found) - {os.getpid()}) == workers


def test_there_are_no_more_workers_than_batches():
    assert len(set(workers_of(taken(pixels(), 0, 2, workers=5, views=Crowd())))) == 2


def test_only_pixels_and_numbers_of_images_cross():
    steps = module._Steps(pixels(), Corners(), 5, 1, torch.arange(5))
    batch = steps[3]
    assert {x.dtype for x in batch.crops} == {torch.uint8}
    assert batch._fields == ("used", "crops", "skipped")


@pytest.mark.parametrize("workers", [0, 1])
def test_no_good_image_is_one_line_from_a_worker_too(tmp_path, workers):
    images = files(tmp_path, n=3)
    for name in images.names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        taken(images, 0, 2, workers=workers, batch_size=2)
    assert "none of the 3 files" in str(caught.value)
    assert "\n" not in str(caught.value)


class Deadly(Corners):
    """Kills the worker it runs in at one of its batches."""

    def __init__(self, main, call=3):
        super().__init__()
        self.main, self.call, self.calls = main, call, 0

    def crop(self, images, parameters):
        self.calls += 1
        if self.calls == self.call and os.getpid() != self.main:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().crop(images, parameters)


def test_a_killed_worker_is_a_named_error_where_the_batch_is_waited_for():
    found = batches(
        *(pixels(), Deadly(os.getpid())), batch_size=5, seed=1, start=0, stop=50, readers=Readers(1)
    )
    next(found)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # it has died, and nothing was raised here
    with pytest.raises(UserError, match=r"a loader worker died .*; use fewer workers") as caught:
        list(found)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), EOFError("end")])
def test_a_worker_that_dies_while_it_hands_over_is_named_too(monkeypatch, error):
    def loader(*_, **__):
        yield from ()
        raise error

    monkeypatch.setattr(module, "DataLoader", loader)
    with pytest.raises(UserError, match="a loader worker died"):
        taken(pixels(), 0, 2, workers=1)


class Faulty(Corners):
    def crop(self, images, parameters):
        raise RuntimeError("a fault in the code")


def test_a_fault_in_the_code_is_not_called_a_dead_worker():
    with pytest.raises(RuntimeError, match="a fault in the code") as caught:
        taken(pixels(), 0, 2, workers=1, views=Faulty())
    assert not isinstance(caught.value, UserError)


def test_workers_ignore_the_signals_that_stop_the_process():
    class Ignoring(Corners):
        def crop(self, images, parameters):
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            return super().crop(images, parameters)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    found = taken(pixels(), 0, 3, workers=1, views=Ignoring())
    assert len(found) == 3
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    assert after == before


def test_stopping_early_ends_the_workers():
    found = batches(
        *(pixels(), Crowd()), batch_size=5, seed=1, start=0, stop=1000, readers=Readers(1)
    )
    row = next(found)[0].views[0][0].flatten().tolist()
    worker = sum(byte << shift for byte, shift in zip(row[:3], (0, 8, 16), strict=True))
    os.kill(worker, 0)
    found.close()
    del found
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


HELD = """
import sys, torch
from pathlib import Path
from selftaught.data.batches import Readers, batches
from selftaught.data.images import ArrayImages
from selftaught.views.image import Crop, View, Views

images = ArrayImages(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), "x")
views = Views([View(Crop(8))], (0.5,), (0.5,))
found = batches(images, views, batch_size=5, seed=1, start=0, stop=1000, readers=Readers(1))
next(found)
sys.kept = found.gi_frame  # as a traceback would
"""


def test_a_program_ends_though_it_still_holds_the_batches():
    subprocess.run([sys.executable, "-c", HELD], timeout=60, check=True)


# Plain


def test_plain_is_every_image_once_in_order():
    images = pixels()
    found = list(plain(images, Whole(), 5))
    assert [len(i) for i, _ in found] == [5, 5, 5, 5, 3]
    assert torch.cat([i for i, _ in found]).tolist() == list(range(23))
    assert torch.equal(torch.cat([x for _, x in found]), images.x.float() / 255)


def test_plain_leaves_broken_images_out(tmp_path):
    images = files(tmp_path, broken=(0, 4, 5, 6, 7, 11))
    found = list(plain(images, Whole(), 4))
    assert [i.tolist() for i, _ in found] == [[1, 2, 3], [8, 9, 10]]
    values = torch.cat([x[:, 0, 0, 0] * 255 for _, x in found]).round().tolist()
    assert values == [1, 2, 3, 8, 9, 10]


@pytest.mark.parametrize("readers", [Readers(2), Readers(later=1)])
def test_plain_is_the_same_by_workers(tmp_path, monkeypatch, readers):
    monkeypatch.setattr(module, "SLOW", -1.0)
    images = files(tmp_path, n=24, broken=(0, 4, 5, 6, 7, 11, 22, 23))
    pairs = zip(plain(images, Whole(), 2), plain(images, Whole(), 2, readers), strict=True)
    for here, there in pairs:
        assert all(map(torch.equal, here, there))


def test_no_worker_begins_after_the_last_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLOW", -1.0)
    images = files(tmp_path, n=2 * (module.TRIED + 1))
    found = [i for i, _ in plain(images, Whole(), 2, Readers(later=1))]
    assert torch.cat(found).tolist() == list(range(len(images)))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_good_image_at_all_is_one_line(tmp_path, workers):
    images = files(tmp_path, n=3)
    for name in images.names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 files"):
        list(plain(images, Whole(), 2, Readers(workers)))


def test_views_are_finished_on_the_device():
    class Here(Whole):
        def apply(self, crops, parameters):
            seen.append({x.device.type for x in crops})
            return super().apply(crops, parameters)

    seen = []
    options = {"batch_size": 4, "seed": 0, "start": 0, "stop": 1}
    ((there, _),) = batches(pixels(), Here(), device=torch.device("meta"), **options)
    ((here, _),) = batches(pixels(), Here(), **options)
    assert seen == [{"meta"}, {"cpu"}]
    assert there.views[0].device.type == "meta"
    assert there.views[0].shape == here.views[0].shape
    assert torch.equal(there.index, here.index)
