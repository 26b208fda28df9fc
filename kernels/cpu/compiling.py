"""Ways to compile the CPU kernels that keep a first start short; in Numba.

Numba makes an entry from Python and one from C for each function, and links whatever a function
calls into its own module and optimises it again: three times over for a loop on all threads. What
only compiled code calls has no entries and no code of its own, so that it is optimised with its
callers alone (the default model's step: 29 s of a core instead of 45), and a loop calls all of a
step by its address (``team_call``).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
from llvmlite.binding import Linkage
from numba.core import caching, cgutils, config, types
from numba.core.caching import CacheImpl, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import intrinsic, overload

_SHARED = Linkage.linkonce_odr, Linkage.weak_odr  # whichever module is loaded first has it


class _TeamLibrary(JITCodeLibrary):
    """LLVM module of a loop on all threads, that calls its own functions, whatever else the process
    has loaded.

    Numba loads a loop's body by itself too, optimised without the function around it. The first
    process of all would run that one and every later one, from the cache, the function's own: sums
    in another order, so other last digits. The functions are private, not internal: LLVM's loader
    knows internal functions by name too, and had other modules call one whose arguments had been
    optimised away (a segmentation fault).
    """

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage in _SHARED:
                function.linkage = Linkage.private
        super()._optimize_final_module()


class _LinkedLibrary(JITCodeLibrary):
    """LLVM module that is linked into others, and that the process never loads."""

    @property
    def codegen(self) -> Any:
        return _WithoutEnvironments(self._codegen)

    def _optimize_final_module(self) -> None:
        """Nothing: what its callers are made of is optimised there."""

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _WithoutEnvironments:
    """Numba's code generator; a function that is not loaded has no room for its environment."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: object) -> None:
        """Nothing: code that is read from the cache has no environments either."""


def _compiler(library: type[JITCodeLibrary]) -> type[Compiler]:
    """The ``pipeline_class`` of ``numba.njit`` that compiles into such a library."""

    class WithLibrary(Compiler):
        def __init__(self, typing: Any, target: Any, given: Any, *rest: Any) -> None:
            if given is None:
                given = library(target.codegen(), library.__name__)
                given.enable_object_caching()
            super().__init__(typing, target, given, *rest)

    return WithLibrary


_PROCESS = uuid.uuid4().hex[:12]


def _own_data_name(self: Any, number: int) -> str:
    """Name of a file for compiled code that no other process gives.

    Numba counts from 1 after those that an index names. Two processes that compiled one function
    for different types at once gave both the same name, and the index then led one type to the
    other's code: a segmentation fault, at that start or a later one.
    """
    name: str = self._data_name_pattern.format(number=number)
    return f"{name.removesuffix('.nbc')}.{_PROCESS}.nbc"


_load_index = IndexDataCacheFile._load_index


def _index_of_this_release(self: Any) -> Any:
    """Read an index; empty where it names classes of a release that had other modules."""
    try:
        return _load_index(self)
    except (ImportError, AttributeError):
        return {}


IndexDataCacheFile._data_name = _own_data_name  # type: ignore[method-assign]
IndexDataCacheFile._load_index = _index_of_this_release  # type: ignore[method-assign]
_KERNELS = Path(__file__).resolve().parents[1]


def _locator(name: str) -> Any:
    """Numba's class of this name; 0.61 has it with an underscore in front."""
    return getattr(caching, name, None) or getattr(caching, f"_{name}")


@functools.cache
def _digest(kernels: Path) -> str:
    """Hash all of ``kernels/``: a function holds the code of helpers in other files."""
    digest = hashlib.sha256()
    for path in sorted(kernels.rglob("*.py")):
        digest.update(path.relative_to(kernels).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


class _BySource:
    """Tells a kernel's compiled code by what all kernels' files hold.

    Numba goes by the time of the function's own file: it would run code of helpers that changed
    since, and a second installation would compile all again.
    """

    def get_source_stamp(self) -> str:
        return _digest(_KERNELS)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if not Path(py_file).resolve().is_relative_to(_KERNELS):
            return None
        return super().from_function(py_func, py_file)  # type: ignore[misc]  # Numba's


class _SourceLocator(_BySource, _locator("UserProvidedCacheLocator")):  # type: ignore[misc]
    """Keeps code in the folder that ``NUMBA_CACHE_DIR`` names, wherever the kernels lie."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        package = __name__.removesuffix(".cpu.compiling")  # as code that is read back names it
        folder = Path(py_file).resolve().parent.relative_to(_KERNELS)
        parts = ".".join((package, *folder.parts))
        self._cache_path = os.path.join(str(config.CACHE_DIR), parts)  # type: ignore[attr-defined]


class _BesideLocator(_BySource, _locator("InTreeCacheLocator")):  # type: ignore[misc]
    """Keeps code beside the kernels."""


CacheImpl._locator_classes[:0] = [_SourceLocator, _BesideLocator]


# Sums may be reordered (that is what vectorises them); NaN and inf keep their meaning.
FAST_SUMS = {"reassoc", "contract", "nsz"}
_LINKED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True,
                           "pipeline_class": _compiler(_LinkedLibrary)}  # fmt: skip

# A function that Python calls; one that runs on all threads.
kernel = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy")
team_kernel = functools.partial(kernel, parallel=True, pipeline_class=_compiler(_TeamLibrary))
# A function that only compiled code calls; with reordered sums.
helper = numba.njit(nogil=True, error_model="numpy", **_LINKED)
fast_helper = numba.njit(nogil=True, error_model="numpy", fastmath=FAST_SUMS, **_LINKED)


def by_types(choose: Any) -> Any:
    """A function that only compiled code calls: for each combination of its arguments' types, the
    one that ``choose`` returns."""

    @functools.wraps(choose)
    def called(*arguments: Any) -> Any:
        raise NotImplementedError("for compiled code only")

    overload(called)(choose)
    return called


class Argument(NamedTuple):
    """One argument of an ``emitted`` function, in the code that is being generated."""

    target: Any  # Numba's context
    builder: Any  # llvmlite's
    kind: Any  # Numba's type
    value: Any  # LLVM's

    def array(self) -> Any:
        """The data and shape of an array."""
        return self.target.make_array(self.kind)(self.target, self.builder, self.value)

    def items(self) -> list[Argument]:
        """The items of a tuple."""
        values = cgutils.unpack_tuple(self.builder, self.value)
        return [self._replace(kind=k, value=v) for k, v in zip(self.kind, values, strict=True)]


def emitted(
    result: Any = types.void, *, prefer_literal: bool = False, **kinds: Any
) -> Callable[[Any], Any]:
    """Decorate a function that adds instructions to the compiled code that calls it.

    The function gets llvmlite's builder, then an ``Argument`` for each of the call's, and returns
    an LLVM value unless ``result`` is void.

    Args:
        result: Numba's type of what it returns.
        prefer_literal: as of ``numba.extending.intrinsic``.
        kinds: by argument, the type that it is cast to; other arguments keep theirs.
    """

    def decorated(emit: Any) -> Any:
        names = list(inspect.signature(emit).parameters)[1:]

        @functools.wraps(emit)
        def typed(context: Any, *given: Any) -> Any:
            def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
                pairs = zip(sig.args, args, strict=True)
                made = emit(builder, *(Argument(target, builder, *pair) for pair in pairs))
                return target.get_dummy_value() if made is None else made

            return result(*(kinds.get(n, k) for n, k in zip(names, given, strict=True))), generate

        return intrinsic(prefer_literal=prefer_literal)(typed)

    return decorated
