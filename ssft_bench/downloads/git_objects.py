"""Names of git objects: a folder's bytes, file names and executable bits in one digest.

Archives that GitHub makes of a commit are packed anew at times, so they have no digest of their own; the tree
in them has (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def blob_name(path: Path) -> str:
    """Name of a file's content: SHA-1 of `blob <size>`, NUL, bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tree_name(folder: Path) -> str:
    """Name of a folder: SHA-1 over mode, name and object of its entries, in git's order.

    As in git, folders without files do not count. Raises OSError for what is neither file, link nor folder.
    """
    entries = []
    for path in folder.iterdir():
        name = os.fsencode(path.name)
        if path.is_symlink():
            target = os.fsencode(os.readlink(path))
            digest = hashlib.sha1(b"blob %d\0" % len(target) + target, usedforsecurity=False)
            entries.append((name, b"120000", digest.digest()))
        elif path.is_dir():
            if any(inside.is_file() or inside.is_symlink() for inside in path.rglob("*")):
                # git sorts a folder as if its name ended in a slash
                entries.append((name + b"/", b"40000", bytes.fromhex(tree_name(path))))
        elif path.is_file():
            mode = b"100755" if path.stat().st_mode & 0o100 else b"100644"
            entries.append((name, mode, bytes.fromhex(blob_name(path))))
        else:
            raise OSError(f"{path} is no file, link or folder")
    content = b"".join(
        mode + b" " + name.rstrip(b"/") + b"\0" + digest for name, mode, digest in sorted(entries)
    )
    return hashlib.sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def object_name(path: Path) -> str:
    """Tree of a folder, blob of a file."""
    return tree_name(path) if path.is_dir() else blob_name(path)
