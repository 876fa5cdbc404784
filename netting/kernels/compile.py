"""One source for two ways to run a kernel: compiled for speed, interpreted for integers of any size.

A kernel is a function of flat vectors of integers: indexing, `len`, loops and integer arithmetic only. Compiled by
numba, a vector is an int64 array; the caller guards that no sum reaches 2^62. Interpreted, a vector is a list of
Python's integers, which can't overflow, and nothing has to be loaded or compiled first: the better way for a small
instance too. Both take the same steps, so they give the same numbers.

A kernel module begins with `kernel, ints = toolchain(__name__)`, takes the kernels of other modules from
`beside(__name__, neighbour)`, and is imported in the wanted way by `load`. `numbers(__name__)` makes vectors of the
numbers of nodes and arcs, of 32 bits without a sign: half as much to read. Such numbers are places to look at, nothing
to calculate with: compiled, the difference of two of them has no sign either.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

SUM_MAX = 2**62
"""Below this every sum and difference of two sums fits in an int64."""
COUNT_MAX = 2**30
"""Below this four times the number of a node or an arc fits in 32 bits."""

_INTERPRETED = " (interpreted)"
_COMPLETE = "complete"

_log = logging.getLogger("netting")

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[_Function], _Function]


def load(name: str, *, compiled: bool) -> ModuleType:
    """Return the kernel module `name`, compiled or interpreted. Each is imported once in a process."""
    if compiled:
        return importlib.import_module(name)
    alias = name + _INTERPRETED
    if alias not in sys.modules:
        source = importlib.util.find_spec(name)
        if source is None or source.origin is None:
            raise ImportError(name)
        spec = importlib.util.spec_from_file_location(alias, source.origin)
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[alias] = module
    return sys.modules[alias]


def toolchain(name: str) -> tuple[_Decorator[Any], Callable[[int], Any]]:
    """Return what a kernel module is made with: the decorator of its kernels, and a maker of vectors of zeros."""
    return (_as_it_is, _zeros) if name.endswith(_INTERPRETED) else (_njit, _compiled_zeros("int64"))


def numbers(name: str) -> Callable[[int], Any]:
    """Return a maker of vectors of zeros for the numbers of nodes and arcs."""
    return _zeros if name.endswith(_INTERPRETED) else _compiled_zeros("uint32")


def beside(name: str, neighbour: str) -> ModuleType:
    """Return the kernel module `neighbour` in the way that the kernel module `name` is loaded."""
    return load(neighbour, compiled=not name.endswith(_INTERPRETED))


def vector(values: Iterable[int], *, compiled: bool) -> Any:
    """Return the values as a kernel wants them: an int64 array, or a list."""
    if not compiled:
        return [int(value) for value in values]
    import numpy as np

    return np.array(values if isinstance(values, np.ndarray) else list(values), dtype=np.int64)


def zeros(count: int, *, compiled: bool) -> Any:
    """Return so many zeros as a kernel wants them."""
    if not compiled:
        return _zeros(count)
    import numpy as np

    return np.zeros(count, np.int64)


def _as_it_is(function: _Function) -> _Function:
    return function


def _zeros(count: int) -> list[int]:
    return [0] * count


def _njit(function: _Function) -> _Function:
    return cast(_Function, _numba().njit(cache=True, nogil=True)(function))


@cache
def _numba() -> Any:
    """Return numba, told where compiled kernels are kept."""
    import numba
    from numba.core import event

    numba.config.CACHE_DIR = str(directory())  # type: ignore[attr-defined]

    class Compiling(event.Listener):
        """Hears of each kernel that isn't kept yet."""

        def on_start(self, _: Any) -> None:
            _announce()

        def on_end(self, _: Any) -> None:
            pass

    event.register("numba:compile", Compiling())  # type: ignore[no-untyped-call]
    return numba


@cache
def _announce() -> None:
    _log.warning("Compiling the netting kernels, once for this machine: it may take a minute or two.")


@cache
def directory() -> Path:
    """Return the directory of the compiled kernels: another one for another kernel, numba, Python or processor.

    A compiled kernel contains the kernels that it calls, but numba looks only at its own file to tell whether it is
    still good.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {metadata.version('numba')} {_processor()}".encode())
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    return _cache(here) / f"kernels-{digest.hexdigest()[:16]}"


def _processor() -> str:
    """Return what tells this machine's kind of processor from others: its name and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return " ".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features"))})
    )


def is_complete() -> bool:
    """Tell whether every kernel is compiled and kept: then none has to be waited for."""
    return (directory() / _COMPLETE).exists()


def mark_complete() -> None:
    """Note that every kernel is compiled and kept."""
    directory().mkdir(parents=True, exist_ok=True)
    (directory() / _COMPLETE).touch()


def _cache(here: Path) -> Path:
    """Return a directory that only this user writes: what is found in it is run."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    for parent in (here / "__pycache__", home / "concordat"):
        try:
            if parent.is_absolute():  # Not so below a home that nobody knows.
                parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent, os.W_OK):
            return parent
    return Path(tempfile.mkdtemp(prefix="concordat-"))


@cache
def _compiled_zeros(kind: str) -> Callable[[int], Any]:
    import numpy as np

    of = np.dtype(kind)

    @_njit
    def zeros(count: int) -> Any:
        return np.zeros(count, of)

    return zeros
