"""Checkpoints that survive a kill at any moment and are verified before they are used.

A checkpoint is a directory ``step-00001234``: the tensors in ``tensors.safetensors``, the rest of
the state and the checksums of both in ``state.json``. It is written beside its final place, synced
and renamed, so that a checkpoint is there whole or not at all. Nothing is ever unpickled.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selftaught.errors import UserError

_FORMAT = 1
_TENSORS, _STATE, _SAVING = "tensors.safetensors", "state.json", ".saving-"
_UNREADABLE = (OSError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError)
_ROOM = "make room and resume, what was saved before is intact"
_PLACE = "choose a directory that you may write to"
_ADVICE = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _PLACE, errno.EACCES: _PLACE}
_DTYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
    **{torch.complex64: "C64", torch.bool: "BOOL"},
}


class Damaged(UserError):
    """A checkpoint that is not what was written, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"the checkpoint {self.path} is damaged ({self.reason}); use another one"


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes the checkpoint of a step and returns its directory.

    ``state`` nests dicts, lists and tuples of tensors, numbers, strings, bools and None; dict keys
    may be of any of these kinds. Once the new checkpoint is in place, the newest sound one of an
    earlier step is kept beside it and all others in ``folder`` are removed: also those of later
    steps, which a run that went back to this step has given up. Raises UserError when it cannot be
    written; what was saved before is then untouched.
    """
    assert step >= 0, step
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, "", tensors)
    final = folder / f"step-{step:08d}"
    with _replacing(final) as temporary:
        temporary.mkdir(parents=True)
        _sync(folder.parent)
        size, checksum = _write(temporary / _TENSORS, _safetensors(tensors))
        contents = {"format": _FORMAT, "step": step, "bytes": size, "sha256": checksum}
        text = json.dumps(contents | {"state": tree}, allow_nan=False, separators=(",", ":"))
        _write(temporary / _STATE, [_seal(text.encode())])
        _sync(temporary)
        if final.exists():
            aside = folder / f"{final.name}~"
            shutil.rmtree(aside, ignore_errors=True)
            final.rename(aside)
    _prune(folder, final, step)
    return final


def restore(path: Path) -> dict[str, Any]:
    """The state that was saved in the directory ``path``, its tensors on the CPU.

    Raises Damaged when anything but what was saved is found there.
    """
    return _load(path)[1]


def latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint that verifies; None when there is no checkpoint.

    Warns of each newer one that is damaged. Raises UserError when all are.
    """
    found = _found(folder)
    for _, path in found:
        try:
            return _load(path)
        except Damaged as error:
            warnings.warn(f"skipped {path}, it is damaged: {error.reason}", stacklevel=2)
    if found:
        raise UserError(f"every checkpoint in {folder} is damaged; start a run in a new directory")
    return None


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that lie there, sound or damaged, the newest first."""
    return [step for step, _ in _found(folder)]


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it holds, at any moment, the old or the new data, and nothing else.

    Raises UserError when it cannot be written; the old file is then untouched.
    """
    with _replacing(path) as temporary:
        _write(temporary, [data])


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the directory ``run`` for one process; the operating system frees it if that dies.

    Raises UserError when another run holds it, or when it cannot be written to.
    """
    with ExitStack() as stack:
        with _telling(f"write to {run}"):
            run.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(run / ".lock", "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                reason = f"{run} is in use by another run; stop that one or choose another place"
                raise UserError(reason) from None
        os.register_at_fork(after_in_child=file.close)  # or an orphaned loader worker would hold it
        yield


def _encode(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON; its tensors go into ``tensors`` under their paths."""
    if node is None or isinstance(node, bool | int | str):
        return node
    if isinstance(node, float):
        return node if math.isfinite(node) else {"$float": str(node)}
    if isinstance(node, list | tuple):
        items = [_encode(item, f"{path}/{i}", tensors) for i, item in enumerate(node)]
        return {"$tuple": items} if isinstance(node, tuple) else items
    if isinstance(node, dict):
        keys = [_encode(key, path, tensors) for key in node]
        values = [_encode(value, f"{path}/{key}", tensors) for key, value in node.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in node):
            return dict(zip(keys, values, strict=True))
        return {"$dict": list(zip(keys, values, strict=True))}
    if isinstance(node, Tensor) and node.dtype in _DTYPES and node.layout == torch.strided:
        name = path.removeprefix("/").encode(errors="replace").decode()
        while name in tensors or name == "__metadata__":
            name += "~"
        tensors[name] = node.detach()
        return {"$tensor": name}
    kind = f"{node.layout} {node.dtype} tensor" if isinstance(node, Tensor) else type(node).__name__
    raise TypeError(f"a checkpoint cannot hold a {kind} (at {path})")


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree that ``_encode`` was given; takes each tensor out of ``tensors``."""
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if not any(key.startswith("$") for key in node):
        return {key: _decode(value, tensors) for key, value in node.items()}
    ((tag, value),) = node.items()
    match tag:
        case "$tensor":
            return tensors.pop(value).clone()  # what was loaded is a map of the file
        case "$float":
            return float(value)
        case "$tuple":
            return tuple(_decode(item, tensors) for item in value)
        case "$dict":
            return {_decode(key, tensors): _decode(item, tensors) for key, item in value}
    raise ValueError(f"{_STATE} has an unknown {tag}")


def _safetensors(tensors: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The pieces of a safetensors file, one tensor at a time, widest first to keep all aligned.

    https://github.com/huggingface/safetensors#format
    """
    widest_first = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header, end = {}, 0
    for name, tensor in widest_first:
        start, end = end, end + tensor.nbytes
        dtype, shape = _DTYPES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, tensor in widest_first:
        yield tensor.cpu().reshape(-1).view(torch.uint8).numpy().data


def _seal(contents: bytes) -> bytes:
    """``state.json``: canonical JSON after its own checksum."""
    checksum = hashlib.sha256(contents).hexdigest().encode()
    return b'{"sha256":"%s","contents":%s}\n' % (checksum, contents)


def _contents(path: Path) -> dict[str, Any]:
    """What ``state.json`` holds, if it is what was written and the tensors have their size."""
    for name in (_STATE, _TENSORS):
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
    sealed = (path / _STATE).read_bytes()
    text = sealed[len(_seal(b"")) - 2 : -2]
    if sealed != _seal(text):
        raise ValueError(f"{_STATE} does not match its checksum")
    contents = json.loads(text)
    if contents["format"] != _FORMAT:
        raise ValueError(f"its format {contents['format']} is not known to this version")
    if (size := (path / _TENSORS).stat().st_size) != contents["bytes"]:
        raise ValueError(f"{_TENSORS} has {size} bytes instead of {contents['bytes']}")
    return contents


def _load(path: Path) -> tuple[int, dict[str, Any]]:
    try:
        contents = _contents(path)
        with open(path / _TENSORS, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != contents["sha256"]:
                raise ValueError(f"{_TENSORS} does not match its checksum")
        tensors = load_file(path / _TENSORS)
        state = _decode(contents["state"], tensors)
        if tensors or not isinstance(state, dict):
            raise ValueError(f"{_STATE} and {_TENSORS} do not belong together")
        return contents["step"], state
    except _UNREADABLE as error:
        raise Damaged(path, str(error).partition("\n")[0]) from error


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Steps and paths of the checkpoints, newest first.

    A ``~`` marks one that was being replaced by another of the same step when the process died.
    """
    with _telling(f"read {folder}"):
        names = os.listdir(folder) if folder.is_dir() else []
    matches = [m for m in map(re.compile(r"step-([0-9]{8,})(~?)").fullmatch, names) if m]
    matches.sort(key=lambda m: (int(m[1]), not m[2]), reverse=True)
    return [(int(m[1]), folder / m[0]) for m in matches]


def _prune(folder: Path, newest: Path, step: int) -> None:
    """Removes temporary directories and all checkpoints but the newest and a sound one before."""
    found = _found(folder)
    before = (path for earlier, path in found if earlier < step and _sound(path))
    kept = {newest, next(before, newest)}
    for path in [*(path for _, path in found), *folder.glob(f"{_SAVING}*")]:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _sound(path: Path) -> bool:
    try:
        return bool(_contents(path))
    except _UNREADABLE:
        return False


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary place beside ``path``, which takes the place of ``path`` or vanishes."""
    temporary = path.with_name(_SAVING + secrets.token_hex(8))
    with _telling(f"write {path}"):
        try:
            yield temporary
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # a directory
            with suppress(OSError):
                temporary.unlink()  # a file
            raise


@contextmanager
def _telling(doing: str) -> Iterator[None]:
    """Turns a refusal of the file system into one line that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the path and the disk")
        raise UserError(f"cannot {doing}: {error.strerror or error}; {advice}") from error


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Writes and syncs a new file; its size and its checksum."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
