"""A file that appears whole: nobody ever sees a part of it, whatever happens on the way."""

from __future__ import annotations

import os


def write_whole(path: str, content: bytes | str, *, durable: bool = False, private: bool = False) -> None:
    """Make `content` that of the file `path`, in one step; of several who do so at once the last one wins.

    Text is written as UTF-8, and what the file system had made surrogates of as it was. With `durable` it is on the
    disk before this returns; with `private` it is its owner's alone, whatever the umask. Raises OSError, after which
    the file is what it was.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    own = f"{path}.{os.urandom(6).hex()}"
    try:
        with open(own, "wb", opener=_private if private else None) as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(own, path)
    except BaseException:
        if os.path.exists(own):
            os.unlink(own)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
