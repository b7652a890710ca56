"""Sources: what lists images and decodes one of them."""

import hashlib
import itertools
import os
import stat
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from selftaught.data.decode import Broken, decode, size
from selftaught.errors import UserError

Skipped = list[tuple[str, str]]  # (name, reason) of what could not be read

SAMPLE = 256  # files of a folder whose headers are read at opening
READ = 32  # files of a folder whose contents tell it from others


class Images(Protocol):
    """Numbered images of one data set, uint8, all with the same number of channels."""

    name: str
    channels: Literal[1, 3]
    names: Sequence[str]  #: one an image: its path inside the data, or its number
    sides: int  #: the median shorter side in pixels, of a sample where there are many files

    def __len__(self) -> int: ...

    def read(self, i: int) -> Tensor:
        """Image i, uint8 (C, H, W); raises `Broken` where it is not a sound image."""
        ...

    def gather(self, index: Tensor) -> tuple[Tensor | list[Tensor], Tensor, Skipped]:
        """The images (n, C, H, W), or n of (C, H, W); the index really used (n,); what was skipped.

        A broken image is replaced by the next good one (i + 1, i + 2, ... modulo N): a function of
        the data alone, so that resumed runs and all workers agree. It is reported each time it is
        met. Raises `UserError` where no image at all is good.
        """
        ...

    def fingerprint(self, apart: Collection[str] = ()) -> str:
        """A short hex string that tells these data from others.

        Of files ``apart``, by `printable` name, only the names count.
        """
        ...

    def stamp(self) -> str:
        """The fingerprint, with the files' times of change where they are read from files."""
        ...

    def take(self, index: Tensor) -> "Images":
        """The images of these numbers, in that order."""
        ...

    def spread(self, count: int) -> "Images":
        """So many of these images, evenly spread and in order, or these where there are no more."""
        ...


def evenly(count: int, total: int) -> Tensor:
    """``count`` numbers below ``total``, evenly spread."""
    return torch.arange(count) * total // count


class ArrayImages:
    """Images of one size, held in memory as uint8 (N, C, H, W)."""

    def __init__(self, x: Tensor, name: str) -> None:
        assert x.dtype == torch.uint8, x.dtype
        assert x.ndim == 4, x.shape
        assert x.shape[1] in (1, 3), x.shape
        self.x = x.contiguous()
        self.name = name
        self.channels: Literal[1, 3] = 1 if x.shape[1] == 1 else 3
        self.names: Sequence[str] = tuple(map(str, range(len(x))))
        self.sides = min(x.shape[2:])

    def __len__(self) -> int:
        return len(self.x)

    def read(self, i: int) -> Tensor:
        """Image i, uint8 (C, H, W)."""
        return self.x[i]

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor, Skipped]:
        """The images (n, C, H, W), the index as it was, and nothing skipped."""
        return self.x[index], index, []

    def fingerprint(self, apart: Collection[str] = ()) -> str:
        """SHA-256 over shape and pixels, 16 hex digits."""
        digest = hashlib.sha256(repr(tuple(self.x.shape)).encode())
        digest.update(self.x.numpy().data)
        return digest.hexdigest()[:16]

    def stamp(self) -> str:
        """The fingerprint."""
        return self.fingerprint()

    def spread(self, count: int) -> "ArrayImages":
        """So many of these images, evenly spread."""
        return self if count >= len(self) else self.take(evenly(count, len(self)))

    def take(self, index: Tensor) -> "ArrayImages":
        """The images of these numbers, under their own names."""
        found = ArrayImages(self.x[index], self.name)
        found.names = tuple(self.names[int(i)] for i in index)
        return found


def recoloured(x: Tensor, channels: Literal[1, 3]) -> Tensor:
    """Images uint8 (N, C, H, W) in grey or in colour, as Pillow makes one of the other."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    share = torch.tensor([19595, 38470, 7471])[:, None, None]  # of 65536: ITU-R 601
    grey = [(one.int() * share).sum(1, keepdim=True) + 0x8000 >> 16 for one in x.split(256)]
    return torch.cat(grey).to(torch.uint8)


class FolderImages:
    """Image files below a folder, decoded when they are read.

    Where `channels` is not given, it is 1 only if all of a sample of the files have one channel.
    Raises `UserError` where not one file of the sample has a sound header.
    """

    def __init__(
        self, root: Path, files: Sequence[str], channels: Literal[1, 3] | None = None
    ) -> None:
        self.root = root
        self.name = folder_name(root)
        self.names: Sequence[str] = files
        found = self._sample()
        self.sides = int(statistics.median(min(height, width) for height, width, _ in found))
        self.channels: Literal[1, 3] = channels or (3 if any(c == 3 for *_, c in found) else 1)
        self._broken: dict[int, str] = {}

    def _sample(self) -> list[tuple[int, int, int]]:
        found, reason = [], ""
        count = min(len(self.names), SAMPLE)
        for k in range(count):
            try:
                found.append(size(self.root / self.names[k * len(self.names) // count]))
            except Broken as broken:
                reason = reason or str(broken)
        if not found:
            raise UserError(
                f"none of {count} files looked at in {self.root} is an image "
                f"({self.names[0]}: {reason}); check the files"
            )
        return found

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> Tensor:
        """Image i, uint8 (C, H, W); raises `Broken`, and remembers it."""
        if i not in self._broken:
            try:
                return decode(self.root / self.names[i], self.channels)
            except Broken as broken:
                self._broken[i] = str(broken)
        raise Broken(self._broken[i])

    def gather(self, index: Tensor) -> tuple[list[Tensor], Tensor, Skipped]:
        """n images (C, H, W), the index really used (n,), and what was skipped."""
        images: list[Tensor] = []
        used: list[int] = []
        skipped: Skipped = []
        for i in index.tolist():
            for j in itertools.chain(range(i, len(self)), range(i)):
                try:
                    images.append(self.read(j))
                except Broken as broken:
                    skipped.append((self.names[j], str(broken)))
                else:
                    used.append(j)
                    break
            else:
                name, reason = skipped[0]
                raise UserError(
                    f"none of the {len(self)} files in {self.root} can be read as an image "
                    f"({name}: {reason}); check the files"
                )
        return images, torch.tensor(used, dtype=torch.long), skipped

    def fingerprint(self, apart: Collection[str] = ()) -> str:
        """SHA-256 over paths and sizes and a few files' contents, 16 hex digits.

        Of files ``apart`` over paths alone. Not over all contents: reading a million files to start
        a run would take longer than the run's first epoch. One file changed in place without a
        change of size can go unseen; other images under the same names do not.
        """
        return digest_of_files(self.root, self.names, apart)

    def stamp(self) -> str:
        """The fingerprint, over the files' times of change too."""
        return digest_of_files(self.root, self.names, times=True)

    def spread(self, count: int) -> "FolderImages":
        """So many of these files, evenly spread."""
        return self if count >= len(self) else self.take(evenly(count, len(self)))

    def take(self, index: Tensor) -> "FolderImages":
        """The files of these numbers."""
        files = [self.names[int(i)] for i in index]
        return FolderImages(self.root, files, self.channels)


def digest_of_files(
    root: Path, names: Sequence[str], apart: Collection[str] = (), *, times: bool = False
) -> str:
    """SHA-256 over paths, sizes and how `READ` files begin, and times of change if asked for.

    Of files ``apart``, by `printable` name, over paths alone. 16 hex digits.
    """
    digest = hashlib.sha256()
    some = set(evenly(min(READ, len(names)), len(names)).tolist())
    for i, name in enumerate(names):
        if apart and printable(name) in apart:
            digest.update(os.fsencode(name) + b"\0")
            continue
        try:
            found = os.stat(root / name)
            said = b"%d %d" % (found.st_size, found.st_mtime_ns) if times else b"%d" % found.st_size
            if i in some and stat.S_ISREG(found.st_mode):
                said += hashlib.sha256(_beginning(root / name)).digest()
        except OSError:
            said = b"-1"
        digest.update(os.fsencode(name) + b"\0" + said + b"\0")
    return digest.hexdigest()[:16]


def _beginning(file: Path) -> bytes:
    """The first quarter of a megabyte of a file."""
    with open(file, "rb") as opened:
        return opened.read(1 << 18)


def folder_name(root: Path) -> str:
    """The folder's own name, also of `.`, `printable`."""
    return printable(os.path.basename(os.path.abspath(root)))


#: what ends a line or a field for some reader of text
SEPARATORS = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"


def printable(name: str) -> str:
    """A file's name on one line of any text file: what is not Unicode, and line ends, escaped."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return text.translate({ord(c): repr(c)[1:-1] for c in SEPARATORS})
