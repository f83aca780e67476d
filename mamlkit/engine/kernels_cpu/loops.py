"""How loops are compiled, and where the machine code is kept for the next process.

Numba's own cache knows a loop by its file alone: it does not see a change in another file, from which the
loop takes a part. Here the machine code lies in a folder whose name holds a digest of all files of this
package.
"""

__all__ = ["are_kept", "loop"]

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import caching

HERE = Path(__file__).parent


def _name() -> str:
    """Of the folder: one digest of what compiles and for what, and one of what is compiled."""
    settings = sorted(
        item for item in os.environ.items() if item[0].startswith("NUMBA_") and item[0] != "NUMBA_CACHE_DIR"
    )
    processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    surroundings = repr((numba.__version__, llvmlite.__version__, processor, settings)).encode()
    sources = b"".join(file.name.encode() + file.read_bytes() for file in sorted(HERE.glob("*.py")))
    return f"loops-{_digest(surroundings)}-{_digest(sources)}"


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _folder() -> Path | None:
    """The first folder that can be written, or None.

    It is where NUMBA_CACHE_DIR says, beside the package, or among the user's caches. What other sources have
    left in the same surroundings is removed.
    """
    name, own = _name(), _digest(str(HERE).encode())  # in a shared place each clone has its own
    places = [HERE / "__pycache__"]
    # ImportError on a machine with PyTorch alone, RuntimeError of somebody without a home; older platformdirs
    # say "~/.cache" then, which is not absolute
    with suppress(ImportError, RuntimeError):
        from platformdirs import user_cache_dir

        places.append(Path(user_cache_dir("mamlkit")) / own)
    if numba.config.CACHE_DIR:
        places.insert(0, Path(numba.config.CACHE_DIR).absolute() / own)
    for place in filter(Path.is_absolute, places):
        with suppress(OSError):
            folder = place / name
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            for old in place.glob(name.rpartition("-")[0] + "-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
            return folder
    return None


class _Locator(caching._CacheLocator):
    """Numba asks where a function is kept and whether its source has changed: the folder answers both."""

    folder = _folder()

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._py_file = file
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator | None":
        return cls(py_func, py_file) if cls.folder else None

    def get_cache_path(self) -> str:
        return str(self.folder)

    def get_source_stamp(self) -> str:
        return Path(self.get_cache_path()).name

    def get_disambiguator(self) -> str:
        return str(self._line)


def are_kept() -> bool:
    """Whether some loops lie compiled in their folder; else the first run compiles what it needs."""
    return _Locator.folder is not None and any(_Locator.folder.glob("*.nbi"))


class _Results(caching.CompileResultCacheImpl):
    _locator_classes: ClassVar = [_Locator]


class _Cache(caching.FunctionCache):
    """A cache that may fail: the disk is full, a file is damaged, another process has removed the folder."""

    _impl_class = _Results

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None
        except Exception:  # a damaged pickle has errors of every kind; the cache is begun anew
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call; where no folder can be written, anew in each process.

    What a loop calls belongs to :mod:`mamlkit.engine.kernels_cpu`, since a change elsewhere would not be
    seen.
    """
    compiled = numba.njit(nogil=True, fastmath={"contract", "nsz"})(function)
    if _Locator.folder:
        compiled._cache = _Cache(function)
    return compiled
