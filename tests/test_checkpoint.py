import errno
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from selftaught import checkpoint
from selftaught.checkpoint import Damaged, latest, lock, restore, save, write_atomic
from selftaught.errors import UserError

TENSORS, STATE = "tensors.safetensors", "state.json"
ODD_NAMES = ["with space", "Vögel", "写真", "🦜🎉", "a'b\"c$d", "-dash", "x" * 255]


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert raw(found) == raw(wanted)
        return
    if isinstance(wanted, dict):
        assert list(map(repr, found)) == list(map(repr, wanted))  # order and kinds of the keys
        for a, b in zip(found.values(), wanted.values(), strict=True):
            assert_same(a, b)
        return
    assert type(found) is type(wanted)
    if isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_same(a, b)
    else:
        assert repr(found) == repr(wanted)  # tells -0.0 from 0.0 and knows nan


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def small(value: int) -> dict[str, Any]:
    return {"weight": torch.full((3, 5), float(value)), "call": {"seed": value, "name": "a"}}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# What goes in comes out


def test_every_kind_comes_back(tmp_path: Path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "plain": base,
        "again": base,
        "shared": base[0],
        "strided": base[:, 1:, ::2],
        "turned": base.permute(2, 0, 1),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "bool": torch.tensor([True, False, True]),
        "bfloat16": torch.randn(7).bfloat16(),
        "empty": torch.empty(0, 4),
        "empty scalar kind": torch.empty(0, dtype=torch.bool),
        "nan": torch.tensor([math.nan, math.inf, -0.0]),
        "parameter": nn.Parameter(torch.randn(2)),
        "rng": torch.get_rng_state(),
        "others": [torch.ones(3).to(dtype) for dtype in checkpoint._DTYPES],
        "numbers": [1, -(2**70), 0.1, -0.0, math.nan, math.inf, -math.inf, True, None, 1e-320],
        "strings": ["", "🦜\n\0", "\udc80", "$tensor"],
        "betas": (0.9, 0.999),
        "nested": {"a": [(1, [2, ()]), {}, []], "": {"$float": "nan", "$$": torch.ones(1)}},
        "keys": {0: torch.ones(1), "0": torch.zeros(1), -1: 2, True: 3, None: 4, 0.5: 5, (1, 2): 6},
        "a/b": torch.ones(1),
        "a": {"b": torch.zeros(1), "\udc80": torch.ones(2), "?": torch.ones(3)},
        "__metadata__": torch.ones(1),
    }
    assert_same(restore(save(tmp_path, 7, state)), state | {"parameter": state["parameter"].data})


def test_what_is_restored_is_not_a_map_of_the_file(tmp_path: Path):
    path = save(tmp_path, 1, {"weight": torch.ones(100_000)})
    state = restore(path)
    with open(path / TENSORS, "r+b") as file:
        file.write(bytes((path / TENSORS).stat().st_size))
    assert torch.equal(state["weight"], torch.ones(100_000))


def test_nothing_to_save(tmp_path: Path):
    assert restore(save(tmp_path, 0, {})) == {}


@pytest.mark.parametrize(
    "thing", [object(), {1}, b"x", torch.ones(2).to_sparse(), torch.ones(1).to(torch.complex128)]
)
def test_other_things_are_refused_before_anything_is_written(tmp_path: Path, thing: object):
    with pytest.raises(TypeError, match="a/0"):
        save(tmp_path, 1, {"a": [thing]})
    assert names(tmp_path) == []


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    LEAVES | st.builds(torch.tensor, st.lists(st.floats(width=32), max_size=3)),
    lambda tree: (
        st.lists(tree, max_size=3)
        | st.lists(tree, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.just("$tuple"), tree, max_size=3)
    ),
    max_leaves=8,
)


def test_any_tree_comes_back(tmp_path: Path):
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(tree=st.dictionaries(st.text(), TREES, max_size=3))
    def comes_back(tree: dict[str, Any]) -> None:
        assert_same(restore(save(tmp_path, 1, tree)), tree)

    comes_back()


def test_files_are_standard_and_readable_by_others_as_the_umask_says(tmp_path: Path):
    from safetensors.torch import load_file

    path = save(tmp_path, 1234, small(3) | {"loss": math.nan})
    assert path == tmp_path / "step-00001234"
    assert torch.equal(load_file(path / TENSORS)["weight"], torch.full((3, 5), 3.0))
    json.loads((path / STATE).read_text(), parse_constant=pytest.fail)
    (tmp_path / "reference").touch()
    wanted = (tmp_path / "reference").stat().st_mode
    assert {file.stat().st_mode for file in path.iterdir()} == {wanted}


def test_tensors_are_aligned(tmp_path: Path):
    kinds = {"a": torch.uint8, "b": torch.float64, "c": torch.bool, "d": torch.bfloat16}
    state = {name: torch.ones(3, dtype=dtype) for name, dtype in kinds.items()}
    data = (save(tmp_path, 1, state) / TENSORS).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert (8 + length + entry["data_offsets"][0]) % kinds[name].itemsize == 0


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def test_adamw_goes_on_bit_by_bit(tmp_path: Path):
    def fresh(seed: int) -> tuple[nn.Sequential, torch.optim.AdamW]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
        decayed = {"params": [model[0].weight, model[2].weight], "weight_decay": 0.1}
        rest = {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}
        return model, torch.optim.AdamW([decayed, rest], lr=0.05, betas=(0.8, 0.99))

    unbroken, optimizer = fresh(0)
    train(unbroken, optimizer, range(3))
    save(tmp_path, 3, {"method": unbroken.state_dict(), "optimizer": optimizer.state_dict()})
    train(unbroken, optimizer, range(3, 6))

    resumed, second = fresh(1)
    found = latest(tmp_path)
    assert found is not None
    step, state = found
    resumed.load_state_dict(state["method"])
    second.load_state_dict(state["optimizer"])
    assert second.param_groups[0]["betas"] == (0.8, 0.99)
    train(resumed, second, range(step, 6))
    assert_same(dict(resumed.state_dict()), dict(unbroken.state_dict()))
    assert_same(second.state_dict(), optimizer.state_dict())


# Which one is kept, and which one is taken


def test_the_last_two_are_kept_and_stale_ones_removed(tmp_path: Path):
    (tmp_path / ".saving-stale").mkdir()
    (tmp_path / ".saving-stale" / TENSORS).touch()
    (tmp_path / "notes.txt").touch()
    for step in (1, 2, 99_999_999, 100_000_000):
        save(tmp_path, step, small(step))
    assert names(tmp_path) == ["notes.txt", "step-100000000", "step-99999999"]
    found = latest(tmp_path)
    assert found is not None
    assert found[0] == 100_000_000
    assert_same(found[1], small(100_000_000))


def test_nothing_is_removed_before_the_new_one_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for step in (1, 2):
        save(tmp_path, step, small(step))
    (tmp_path / ".saving-stale").mkdir()
    remove, seen = shutil.rmtree, []
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **k: (seen.append((path, names(tmp_path))), remove(path))
    )
    save(tmp_path, 3, small(3))
    assert {path.name for path, _ in seen} == {"step-00000001", ".saving-stale"}
    assert all("step-00000003" in there for _, there in seen)


def test_a_damaged_one_is_not_counted_among_the_two(tmp_path: Path):
    for step in (1, 2):
        save(tmp_path, step, small(step))
    (tmp_path / "step-00000002" / TENSORS).write_bytes(b"")
    save(tmp_path, 3, small(3))
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_a_run_that_went_back_takes_its_own_checkpoint(tmp_path: Path):
    for step in (1, 5, 6):
        save(tmp_path, step, small(step))
    save(tmp_path, 3, small(30))
    assert names(tmp_path) == ["step-00000003"]
    found = latest(tmp_path)
    assert found is not None
    assert found[0] == 3


def test_the_same_step_again_replaces_it(tmp_path: Path):
    for value in (1, 2, 3):
        save(tmp_path, 8, small(value))
    assert names(tmp_path) == ["step-00000008"]
    assert_same(restore(tmp_path / "step-00000008"), small(3))


def test_none_yet(tmp_path: Path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None
    (tmp_path / "step-1").mkdir()
    assert latest(tmp_path) is None


# Damage


def flip(path: Path, name: str, bit: int) -> None:
    data = bytearray((path / name).read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    (path / name).write_bytes(data)


@pytest.mark.parametrize("name", [TENSORS, STATE])
def test_a_flipped_bit_in_any_byte_is_noticed(tmp_path: Path, name: str):
    path = save(tmp_path, 1, small(1))
    chance = random.Random(0)
    for byte in range((path / name).stat().st_size):
        bit = 8 * byte + chance.randrange(8)
        flip(path, name, bit)
        with pytest.raises(Damaged, match="does not match its checksum"):
            restore(path)
        flip(path, name, bit)
    assert_same(restore(path), small(1))


@pytest.mark.parametrize("name", [TENSORS, STATE])
def test_every_truncation_and_extension_is_noticed(tmp_path: Path, name: str):
    path = save(tmp_path, 1, small(1))
    whole = (path / name).read_bytes()
    for data in [*(whole[:size] for size in range(len(whole))), whole + b"\n", whole + whole]:
        (path / name).write_bytes(data)
        with pytest.raises(Damaged):
            restore(path)


def test_missing_files(tmp_path: Path):
    for step, name in enumerate((TENSORS, STATE)):
        path = save(tmp_path, step, small(step))
        (path / name).unlink()
        with pytest.raises(Damaged, match=f"{name} is missing"):
            restore(path)
        os.mkfifo(path / name)  # would wait for ever
        with pytest.raises(Damaged, match=f"{name} is missing"):
            restore(path)
    with pytest.raises(Damaged, match=f"{STATE} is missing"):
        restore(tmp_path / "nowhere")


def forge(path: Path, tensors: bytes, **changed: Any) -> None:
    """Damage by somebody who mends the checksums."""
    _, checksum = checkpoint._write(path / "new", [tensors])
    (path / "new").replace(path / TENSORS)
    contents = json.loads((path / STATE).read_bytes())["contents"]
    contents |= {"bytes": len(tensors), "sha256": checksum} | changed
    (path / STATE).write_bytes(checkpoint._seal(json.dumps(contents).encode()))


def header(text: Any, length: int | None = None, body: bytes = b"") -> bytes:
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + body


def entry(shape: list[int], end: int, dtype: str = "F32", start: int = 0) -> dict[str, Any]:
    return {"weight": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}


HEADERS = {
    "empty": b"",
    "short": b"\1\0\0",
    "huge length": header({}, 2**63),
    "largest length": header({}, 2**64 - 1),
    "allowed length": header({}, 99_999_999),
    "no header": header(b""),
    "nonsense": header(b"\xff\xfe nonsense"),
    "deep": header(b"[" * 100_000),
    "deep object": header(b'{"a":' * 100_000),
    "pickle": b"\x80\x04\x95" + bytes(64),
    "huge shape": header(entry([2**40, 2**40], 4), body=bytes(4)),
    "huge empty shape": header(entry([0, 2**63], 0)),
    "negative shape": header(entry([-1], 4), body=bytes(4)),
    "past the end": header(entry([1000], 4000), body=bytes(4)),
    "backwards": header(entry([1], 0, start=4), body=bytes(4)),
    "hole": header(entry([1], 8, start=4), body=bytes(8)),
    "unknown kind": header(entry([1], 4, "F31"), body=bytes(4)),
    "kind without a torch type": header(entry([4], 3, "F6_E2M3"), body=bytes(3)),
    "another name": header({"w": entry([1], 4)["weight"]}, body=bytes(4)),
    "more than wanted": header(
        entry([1], 4) | {"w": entry([1], 8, start=4)["weight"]}, body=bytes(8)
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_malicious_tensor_file_is_damaged_whatever_its_checksum(tmp_path: Path, kind: str):
    path = save(tmp_path, 1, small(1))
    (path / TENSORS).write_bytes(HEADERS[kind])
    with pytest.raises(Damaged):
        restore(path)
    forge(path, HEADERS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Damaged) as error:
        restore(path)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # KiB


TREES_FORGED = {
    "unknown tag": {"$pickle": "x"},
    "two tags": {"$tensor": "weight", "$float": "nan"},
    "unknown tensor": {"$tensor": "w"},
    "tensor twice": {"a": {"$tensor": "weight"}, "b": {"$tensor": "weight"}},
    "tensor of a list": {"$tensor": []},
    "no number": {"$float": "one"},
    "no pairs": {"$dict": [[1, 2, 3]]},
    "no list": {"$tuple": 3},
    "key without a hash": {"$dict": [[[], 1]]},
    "no dict": [{"$tensor": "weight"}],
    "tensor left over": {},
}


@pytest.mark.parametrize("kind", TREES_FORGED)
def test_a_malicious_state_is_damaged(tmp_path: Path, kind: str):
    path = save(tmp_path, 1, small(1))
    forge(path, (path / TENSORS).read_bytes(), state=TREES_FORGED[kind])
    with pytest.raises(Damaged):
        restore(path)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"3", b"{}", b"[" * 100_000, b"\xff", b'{"format":2}']
)
def test_sealed_nonsense_is_damaged(tmp_path: Path, text: bytes):
    path = save(tmp_path, 1, small(1))
    (path / STATE).write_bytes(checkpoint._seal(text))
    with pytest.raises(Damaged):
        restore(path)


def test_a_later_format_is_named(tmp_path: Path):
    path = save(tmp_path, 1, small(1))
    forge(path, (path / TENSORS).read_bytes(), format=2)
    with pytest.raises(Damaged, match="format 2"):
        restore(path)


def test_a_malicious_pickle_is_never_run(tmp_path: Path):
    import pickle

    class Canary:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "canary"),)

    for name in (TENSORS, STATE):
        path = save(tmp_path, 1, small(1))
        (path / name).write_bytes(pickle.dumps(Canary()))
        with pytest.raises(Damaged):
            restore(path)
    forge(save(tmp_path, 1, small(1)), pickle.dumps(Canary()))
    with pytest.raises(Damaged):
        restore(path)
    assert not (tmp_path / "canary").exists()


def test_a_damaged_newest_is_skipped_with_a_warning(tmp_path: Path):
    for step in (1, 2):
        save(tmp_path, step, small(step))
    flip(tmp_path / "step-00000002", TENSORS, 500)
    with pytest.warns(UserWarning, match=r"step-00000002.*does not match its checksum") as told:
        found = latest(tmp_path)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert found is not None
    assert found[0] == 1
    assert_same(found[1], small(1))


def test_all_damaged(tmp_path: Path):
    for step in (1, 2):
        flip(save(tmp_path, step, small(step)), STATE, 5)
    with (
        pytest.warns(UserWarning, match="step-0000000"),
        pytest.raises(UserError, match="every checkpoint"),
    ):
        latest(tmp_path)


# Refusals of the file system


class Disk:
    """Counts the calls that change the disk, and does ``fault`` in place of call ``at``."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, fault: Callable[[], Any]) -> None:
        self.count, self.at, self.fault, self.log = 0, at, fault, []
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self.watch(name, getattr(os, name)))
        patch.setattr(checkpoint, "open", self.opened, raising=False)
        patch.setattr(shutil, "rmtree", self.watch("rmtree", shutil.rmtree))

    def watch(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self.log.append((name, *args))
            self.count += 1
            if self.count == self.at:
                self.fault()
            return call(*args, **options)

        return watched

    def opened(self, path: Path, mode: str) -> Any:
        file = open(path, mode)  # noqa: SIM115
        if mode != "xb":
            return file
        return Watched(file, self.watch("write", file.write))


class Watched:
    def __init__(self, file: Any, write: Callable[..., Any]) -> None:
        self.file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def raiser(code: int) -> Callable[[], Any]:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


def calls_of(work: Callable[[], Any]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, 0, lambda: None)
        work()
        return disk.count


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EACCES", "EDQUOT", "EIO"])
def test_a_full_disk_at_any_moment_leaves_the_old_checkpoint(tmp_path: Path, code: str):
    folder = tmp_path / "🦜 run" / "checkpoints"
    save(folder, 1, small(1))
    calls = calls_of(lambda: save(folder, 2, small(2)))
    assert calls > 8
    refused = 0
    for at in range(1, calls + 1):
        shutil.rmtree(folder / "step-00000002", ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, at, raiser(getattr(errno, code)))
            try:
                save(folder, 2, small(2))
            except UserError as error:
                refused += 1
                told = str(error)
                assert "🦜 run" in told
                assert os.strerror(getattr(errno, code)) in told
                assert "\n" not in told
                if code in ("ENOSPC", "EDQUOT"):
                    assert "make room" in told
                renamed = "replace" in [name for name, *_ in disk.log[: at - 1]]
                wanted = ["step-00000001"] + ["step-00000002"] * renamed
                assert names(folder) == wanted
        assert_same(restore(folder / "step-00000001"), small(1))
    assert refused == calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, code: int):
    path = tmp_path / "run.json"
    write_atomic(path, b"old")
    calls = calls_of(lambda: write_atomic(path, b"old"))
    for at in range(1, calls):  # the last is the sync of the directory
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, at, raiser(code))
            with pytest.raises(UserError, match=r"run\.json"):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["run.json"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_real_refusal(tmp_path: Path):
    """The kernel's own EFBIG at 4 KiB."""
    save(tmp_path, 1, small(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(UserError, match="File too large"):
            save(tmp_path, 2, {"weight": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == ["step-00000001"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    Disk(monkeypatch, 4, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1, small(1))
    assert names(tmp_path) == []


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for run in (tmp_path / "file", tmp_path / "loop", tmp_path / ("x" * 300)):
        with pytest.raises(UserError):
            save(run / "checkpoints", 1, small(1))
        with pytest.raises(UserError), lock(run):
            pass
        with pytest.raises(UserError):
            write_atomic(run / "run.json", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        write_atomic(tmp_path / "folder", b"x")
    assert names(tmp_path) == ["file", "folder", "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may write"), lock(tmp_path):
        pass
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(tmp_path: Path, name: str):
    run = tmp_path / name
    with lock(run):
        save(run / "checkpoints", 1, small(1))
        write_atomic(run / name, name.encode())
    found = latest(run / "checkpoints")
    assert found is not None
    assert_same(found[1], small(1))
    assert (run / name).read_text() == name


# Kill


def test_everything_is_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "checkpoints"
    events: list[Any] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (events.append(os.fstat(f).st_ino), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda *p: (events.append("renamed"), replace(*p)))
    path = save(folder, 1, small(1))
    of = {file.name: file.stat().st_ino for file in (path / TENSORS, path / STATE, path, folder)}
    at = {name: events.index(node) for name, node in of.items()}
    renamed = events.index("renamed")
    assert max(at[TENSORS], at[STATE]) < at[path.name] < renamed < at["checkpoints"]
    assert tmp_path.stat().st_ino in events[:renamed]  # its first checkpoint made the folder


def forked(work: Callable[[], Any]) -> int:
    """The process id of a child that does ``work`` and ends with 0, or with 1 on an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: Python 3.12
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def ended(child: int) -> int:
    """Minus the signal, or the exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", [2, 3])
def test_killed_at_each_call(tmp_path: Path, step: int):
    """A new step, and a step that is there already."""

    def again() -> Path:
        shutil.rmtree(tmp_path)
        save(tmp_path, 1, small(1))
        return save(tmp_path, 2, small(2))

    again()
    calls = calls_of(lambda: save(tmp_path, step, small(99)))
    seen = set()
    for at in range(1, calls + 1):
        again()

        def work(at: int = at) -> None:
            Disk(pytest.MonkeyPatch(), at, die)
            save(tmp_path, step, small(99))

        assert ended(forked(work)) == -signal.SIGKILL
        found = latest(tmp_path)  # any warning is an error
        assert found is not None
        value = found[1]["call"]["seed"]
        assert_same(found, ((step, small(99)) if value == 99 else (2, small(2))))
        seen.add(value)
        save(tmp_path, 4, small(4))
        assert len(names(tmp_path)) == 2
    assert seen == {2, 99}


def test_the_only_checkpoint_survives_being_replaced(tmp_path: Path):
    calls = calls_of(lambda: [save(tmp_path, 1, small(1)), save(tmp_path, 1, small(1))])
    for at in range(1, calls // 2 + 3):
        shutil.rmtree(tmp_path)
        save(tmp_path, 1, small(1))

        def work(at: int = at) -> None:
            Disk(pytest.MonkeyPatch(), at, die)
            save(tmp_path, 1, small(1))

        ended(forked(work))
        found = latest(tmp_path)
        assert found is not None
        assert_same(found[1], small(1))


def test_killed_at_random_moments(tmp_path: Path):
    chance = random.Random(0)
    save(tmp_path, 0, small(0))
    last = 0
    for _ in range(15):

        def work(first: int = last) -> None:
            for step in range(first + 1, first + 100_000):
                save(tmp_path, step, small(step))

        child = forked(work)
        time.sleep(chance.uniform(0.001, 0.06))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        found = latest(tmp_path)
        assert found is not None
        assert found[0] >= last
        last = found[0]
        assert_same(found[1], small(last))
    assert last > 0


# Two runs in one directory


def test_the_second_run_is_refused(tmp_path: Path):
    run = tmp_path / "new" / "run"
    with lock(run):
        with pytest.raises(UserError, match="in use by another run"), lock(run):
            pass
        with lock(tmp_path / "other"):
            pass
    with lock(run):
        pass


def test_another_process_is_refused_until_the_first_is_killed(tmp_path: Path):
    ready, tell = os.pipe()

    def hold() -> None:
        with lock(tmp_path):
            worker = forked(lambda: time.sleep(60))  # an orphan, as a loader's workers may be
            os.write(tell, str(worker).encode())
            time.sleep(60)

    child = forked(hold)
    worker = int(os.read(ready, 20))
    with pytest.raises(UserError, match="in use by another run"), lock(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    ended(child)
    try:
        until = time.monotonic() + 5  # the worker may not have come to close its copy
        while True:
            try:
                with lock(tmp_path):
                    break
            except UserError:
                assert time.monotonic() < until
                time.sleep(0.01)
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(ready)
        os.close(tell)


def test_an_error_inside_the_lock_is_not_touched(tmp_path: Path):
    with pytest.raises(FileNotFoundError), lock(tmp_path):
        raise FileNotFoundError
    with lock(tmp_path):
        pass
