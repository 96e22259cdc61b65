"""How kernels are compiled and where they are cached: one decorator for all of them.

numba keys a cached kernel by the time stamp of its own file and does not see that a
kernel it calls has changed. So each package's cache lives in a folder named by a hash
of all kernel sources that it may call (its own and those of ``shared``) and of numba's
version: what is found there always fits.

``NUMBA_CACHE_DIR`` overrides the place. Otherwise it is inside the virtual environment
when that is writable, else in the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from shared.arena import Arena
from shared.bundles import bundle
from shared.deferred import DeferredDispatcher

_ROOT = Path(__file__).resolve().parent.parent
_KEPT_CACHES = 4
"""Of each package."""
_CHOSEN_FOLDER = numba.config.CACHE_DIR
_CALLED = {"tests": ("workers", "loadtest")}
"""Packages whose kernels those of a package call, other than those of ``shared``."""

bundle(Arena)  # here, since the control plane maps arenas, too, and loads no compiler

KERNELS: list[Any] = []
"""Every dispatcher made so far, in order of definition."""


def sources_digest(package: str) -> str:
    """Hash of a package's kernel sources, of those it may call, and of what compiles them."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for name in dict.fromkeys(("shared", *_CALLED.get(package, ()), package)):
        for path in sorted((_ROOT / name).rglob("*.py")):
            text = path.read_bytes()
            if name == "shared" or b"kernel\ndef " in text:
                digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + text)
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@functools.cache
def cache_folder(package: str = "workers") -> Path:
    """Folder of a package's compiled kernels; makes its parent, drops the oldest others."""
    if _CHOSEN_FOLDER:
        return Path(_CHOSEN_FOLDER)
    parent = Path(sys.prefix) / "var" / "tuttihub-kernels"
    if sys.prefix == sys.base_prefix or not _writable(parent):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        parent = Path(home) / "tuttihub-kernels"
        _writable(parent)
    folder = parent / f"{package}-{sources_digest(package)}"
    if not folder.exists() and parent.exists():
        others = sorted(
            parent.glob(f"{package}-*"), key=lambda path: path.stat().st_mtime, reverse=True
        )
        for old in others[_KEPT_CACHES - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def use_cache_of(function: Callable[..., Any]) -> None:
    """What is made of this function next is cached in its package's folder.

    The package is told by the file: a module that is run by ``python -m`` has no name.
    """
    file = Path(function.__code__.co_filename).resolve()
    folder = cache_folder(file.relative_to(_ROOT).parts[0] if _ROOT in file.parents else "other")
    numba.config.CACHE_DIR = str(folder)  # read when a dispatcher is made


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    """The dispatcher of a function, cached in its package's folder."""
    use_cache_of(function)
    compiling = {"nopython": True, "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
    # said of each kernel: one of which they are not said has them of whichever calls it first
    ours = {"forceinline": False, "fastmath": False}
    dispatcher = DeferredDispatcher(function, targetoptions=compiling | ours | options)
    dispatcher.enable_caching()
    KERNELS.append(dispatcher)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile to machine code at the first call, without the interpreter, cached on disk.

    There is no allocator either (``_nrt=False``): a kernel that would allocate, or count
    references, does not compile.
    """
    return _compile(function)


def part_kernel(function: Callable[..., Any]) -> Any:
    """As ``kernel``, but put into each kernel that calls it.

    Worth it where a call is made for every packet, from one place or two: LLVM then sees which of
    its branches are one and the same, but compiles it as often as it is called.
    """
    return _compile(function, forceinline=True)


def level_kernel(function: Callable[..., Any]) -> Any:
    """As ``kernel``, for meters only: reductions may be reordered so that they vectorise."""
    return _compile(function, fastmath={"nnan", "ninf", "nsz", "reassoc"})


def filter_kernel(function: Callable[..., Any]) -> Any:
    """As ``kernel``, for sums of products: they may be reordered and fused to vectorise."""
    return _compile(function, fastmath={"nnan", "ninf", "nsz", "reassoc", "contract"})


def compiled_anew() -> int:
    """Kernels that this process compiled because the cache did not hold them."""
    return sum(len(kernel.parts) for kernel in KERNELS)


def entry_point(dispatcher: Any) -> Callable[..., Any]:
    """The machine code of a kernel's only signature, for calls without type dispatch.

    Raises:
        ValueError: it has not been compiled for exactly one signature.
    """
    if len(dispatcher.signatures) != 1:
        raise ValueError(f"{dispatcher.__name__} has {len(dispatcher.signatures)} signatures")
    function: Callable[..., Any] = dispatcher.compile(dispatcher.signatures[0])
    return function


def forbid_compilation() -> None:
    """From now on a call from Python that would have to compile raises TypeError instead.

    Kernels that were never called from Python have no signature of their own: their code
    is part of those that call them.
    """
    for dispatcher in KERNELS:
        if dispatcher.signatures:
            dispatcher.disable_compile()
