"""How kernels are compiled and where they are cached: one decorator for all of them.

numba keys a cached kernel by the time stamp of its own file and does not see that a
kernel it calls has changed. So the cache lives in a folder named by a hash of all
kernel sources and of numba's version: what is found there always fits.

``NUMBA_CACHE_DIR`` overrides the place. Otherwise it is inside the virtual environment
when that is writable, else in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

_PACKAGES = ("shared", "workers", "loadtest")
_ROOT = Path(__file__).resolve().parent.parent
_KEPT_CACHES = 4

KERNELS: list[Any] = []
"""Every dispatcher made so far, in order of definition."""


def sources_digest() -> str:
    """Hash of all kernel sources and of what compiles them."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).glob("*.py")):
            text = path.read_bytes()
            if path.parent.name == "shared" or b"shared.kernels" in text:
                digest.update(path.name.encode() + b"\0" + text)
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def cache_folder() -> Path:
    """Folder of this version's compiled kernels; makes its parent, drops the oldest others."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR)
    parent = Path(sys.prefix) / "var" / "tuttihub-kernels"
    if sys.prefix == sys.base_prefix or not _writable(parent):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        parent = Path(home) / "tuttihub-kernels"
        _writable(parent)
    folder = parent / sources_digest()
    if not folder.exists() and parent.exists():
        others = sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in others[_KEPT_CACHES - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


numba.config.CACHE_DIR = str(cache_folder())


def kernel(function: Callable[..., Any]) -> Any:
    """Compile to machine code at the first call, without the interpreter, cached on disk.

    There is no allocator either (``_nrt=False``): a kernel that would allocate, or count
    references, does not compile.
    """
    dispatcher = njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)(function)
    KERNELS.append(dispatcher)
    return dispatcher


def level_kernel(function: Callable[..., Any]) -> Any:
    """As ``kernel``, for meters only: reductions may be reordered so that they vectorise."""
    flags = {"nnan", "ninf", "nsz", "reassoc"}
    dispatcher = njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True, fastmath=flags)(
        function
    )
    KERNELS.append(dispatcher)
    return dispatcher


def compiled_anew() -> int:
    """Kernels that this process compiled because the cache did not hold them."""
    return sum(sum(k.stats.cache_misses.values()) for k in KERNELS)


def forbid_compilation() -> None:
    """From now on a call from Python that would have to compile raises TypeError instead.

    Kernels that were never called from Python have no signature of their own: their code
    is part of those that call them.
    """
    for dispatcher in KERNELS:
        if dispatcher.signatures:
            dispatcher.disable_compile()
