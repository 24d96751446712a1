"""Parts: files on their way to being whole.

Rules. Bytes arrive beside the final name, in a file that stays open and locked until it is left, so that a second
download of the same video, in another thread or process, takes a file of its own. The kernel frees the lock of whoever
dies. A part that can be resumed keeps the server's word for its version in its own name; any other goes when it is
left. No link is followed: what lies under one of these names and is no plain file of its own is left alone.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

Film = Literal["whole", "open", "bare", "cut", "foreign"]
"""What a file is: an MP4 from beginning to end, one whose last box ends wherever the file does, one whose boxes are
whole but hold no film, one cut off, or none."""

# A pipe of this name must not keep an open waiting either.
_PLAINLY: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_LONGEST_NAME: Final = 255
_LONGEST_VALIDATOR: Final = 100
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_MOST_BOXES: Final = 100_000
_ENTITY_TAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_BOX: Final = re.compile(rb"[A-Za-z0-9 _\xa9]{4}")
_BOXES: Final = frozenset(
    b"ftyp styp moov moof mdat free skip wide uuid meta meco mfra sidx ssix prft emsg pdin pnot udta idat".split()
)


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What tells this version of a file from any other (RFC 9110 13.1.5), fit for a file's name; None where nothing.

    A file changed twice within the second of its date would have one date for two versions.
    """
    tag, date = headers.get("etag", ""), headers.get("last-modified", "")
    if _ENTITY_TAG.fullmatch(tag):
        return tag if len(tag) <= _LONGEST_VALIDATOR else None
    return date if _DATE.fullmatch(date) and date != headers.get("date") else None


class Part:
    """The part file of one download.

    Every method but ``close`` may block. ``close`` never does: it may be called while another thread is within one of
    the others, which then cleans up on its way out.

    Args:
        path: The final name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.validator: str | None = None
        self._at: Path | None = None
        self._file = -1
        self._lock = threading.Lock()
        self._busy = self._left = False

    def resume(self) -> None:
        """Take on what an earlier download left, where nobody else is at it."""
        with self._in_use():
            for at, validator in self._others():
                if validator is None or (file := _claimed(at)) is None:
                    continue
                size = os.lseek(file, 0, os.SEEK_END)
                if size:
                    self._file, self._at, self.validator, self.size = file, at, validator, size
                    return
                os.close(file)

    def begin(self, validator: str | None) -> None:
        """An empty file. What earlier downloads left of other versions goes."""
        with self._in_use():
            self._drop()
            self._sweep()
            name = _part_name(self.path, validator)
            file = _claimed(self.path.with_name(name), os.O_CREAT)
            if file is not None:
                self._file, self._at = file, self.path.with_name(name)
                self.validator = validator if name != _part_name(self.path, None) else None
                os.ftruncate(file, 0)
                return
            self._file, self._at = _private(self.path)

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        with self._in_use():
            left = memoryview(chunk)
            while left:
                left = left[os.write(self._file, left) :]
            self.size += len(chunk)

    def film(self) -> Film:
        """What the file is so far."""
        with self._in_use():
            return _film(self._file)

    def settle(self) -> None:
        """Give the file its final name, after its bytes are on the disk."""
        with self._in_use():
            if self._at is None or not _is_own(self._file, self._at):
                raise OSError(errno.ESTALE, "its part file was taken away meanwhile")
            os.fsync(self._file)
            if sys.platform == "win32":  # which moves no file that is open
                self._shut()
            self._at.replace(self.path)
            self._at = None
            self._shut()
            with suppress(OSError):  # not every system opens folders
                _sync_folder(self.path.parent)
            self._sweep()

    def discard(self) -> None:
        """Let the file go, and its bytes with it."""
        with self._in_use():
            self._drop()

    def close(self) -> None:
        """Leave the file: for a later download where it can be resumed, else for good. A second time does nothing."""
        with self._lock:
            self._left = True
            if not self._busy:
                self._leave()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._left:
                raise OSError(errno.ECANCELED, "the download was given up")
            self._busy = True
        try:
            yield
        finally:
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._busy = False
            if self._left:
                self._leave()

    def _leave(self) -> None:
        if self.validator is None or not self.size:
            self._drop()
        self._shut()

    def _drop(self) -> None:
        if self._at is not None:
            with suppress(OSError):
                if sys.platform == "win32":  # which removes no file that is open
                    self._shut()
                self._at.unlink()
        self._shut()
        self._at, self.validator, self.size = None, None, 0

    def _shut(self) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
        self._file = -1

    def _others(self) -> list[tuple[Path, str | None]]:
        """Part files of this name, and the versions that they can be resumed at."""
        named = re.compile(rf"{re.escape(self.path.name)}\.(?:([A-Za-z0-9_-]+)\.)?part")
        names = sorted(entry.name for entry in self.path.parent.iterdir())
        found = [match for name in names if (match := named.fullmatch(name))]
        return [(self.path.with_name(match[0]), _validator(match[1] or "")) for match in found]

    def _sweep(self) -> None:
        """Remove the parts of this name that nobody is at."""
        with suppress(OSError):
            for at, _ in self._others():
                if (file := _claimed(at)) is not None:
                    with suppress(OSError):
                        if sys.platform != "win32":
                            at.unlink()
                    os.close(file)
                    if sys.platform == "win32":
                        with suppress(OSError):
                            at.unlink()


def is_whole_film(path: Path) -> bool:
    """Whether a plain file of this name holds an MP4 from its beginning to its end."""
    try:
        file = _opened(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(file).st_mode) and _film(file) in ("whole", "open", "bare")
    except OSError:
        return False
    finally:
        os.close(file)


def _part_name(path: Path, validator: str | None) -> str:
    coded = urlsafe_b64encode((validator or "").encode()).decode().rstrip("=")
    name = f"{path.name}.{coded}.part"
    return name if coded and len(name) <= _LONGEST_NAME else f"{path.name}.part"


def _validator(coded: str) -> str | None:
    """What :func:`_part_name` put into a name. Nothing else decodes to a tag or a date: not a private name either."""
    try:
        text = urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode("ascii")
    except ValueError:
        return None
    return text if _ENTITY_TAG.fullmatch(text) or _DATE.fullmatch(text) else None


def _opened(path: Path, flags: int) -> int:
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(path, flags | _PLAINLY, 0o666)


def _claimed(path: Path, flags: int = 0) -> int | None:
    """The file of this name, open and locked; None where it cannot be, or is no plain file of its own."""
    try:
        file = _opened(path, os.O_RDWR | flags)
    except OSError:
        return None
    try:
        _lock(file)
        if _is_own(file, path):
            return file
    except OSError as error:
        if error.errno in _NO_LOCKS and os.fstat(file).st_size == 0:  # made just now, and of no use to anybody
            with suppress(OSError):
                path.unlink()
    os.close(file)
    return None


def _private(path: Path) -> tuple[int, Path]:
    """A new file that no other download knows of."""
    for _ in range(8):
        at = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
        file = _opened(at, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            _lock(file)
            swept = not _is_own(file, at)
        except OSError as error:
            swept = error.errno not in _NO_LOCKS  # where no one can lock a file, no one sweeps it away
        if not swept:
            return file, at
        os.close(file)
    raise OSError(errno.EBUSY, "no part file stays in its place")


def _is_own(file: int, path: Path) -> bool:
    """Whether this open file is a plain one, and the one of this name, and has no other name."""
    here = os.fstat(file)
    try:
        return stat.S_ISREG(here.st_mode) and here.st_nlink == 1 and os.path.samestat(here, path.lstat())
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 2**31 - 2, os.SEEK_SET)  # a byte that nobody needs: Windows keeps others from what is locked
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _film(file: int) -> Film:
    """Whether a file is an MP4 (ISO/IEC 14496-12: boxes, the first named ftyp) with none of its boxes cut off.

    Bytes after the last box that are none are left to whoever wrote them, once there is a film before them.
    """
    end, at, seen = os.lseek(file, 0, os.SEEK_END), 0, set[bytes]()
    for _ in range(_MOST_BOXES):
        os.lseek(file, at, os.SEEK_SET)
        header = os.read(file, 16)
        size, kind = int.from_bytes(header[:4]), header[4:8]
        there: Film = "whole" if seen >= {b"moov", b"mdat"} else "bare"
        if not seen and kind != b"ftyp":
            return "cut" if len(header) < 8 and b"ftyp".startswith(kind) else "foreign"
        if len(header) < 8:
            return "cut" if header and there == "bare" else there
        if size == 1:
            size = int.from_bytes(header[8:]) if len(header) == 16 else end + 1
            if size < 16:
                return there
        elif size == 0 and _BOX.fullmatch(kind):
            return "open" if {*seen, kind} >= {b"moov", b"mdat"} else "bare"
        elif size < 8 or not _BOX.fullmatch(kind):
            return there
        if at + size > end:
            return there if there == "whole" and kind not in _BOXES else "cut"
        at += size
        seen.add(kind)
    return "whole"
