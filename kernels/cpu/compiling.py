"""Ways to compile the CPU kernels that keep a first start short; in Numba.

Numba makes an entry from Python and one from C for each function, and links whatever a function
calls into its own module and optimises it again: three times over for a loop on all threads. What
only compiled code calls has no entries here and no code of its own (``linked_code``), and a loop
calls all of a step by its address.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.linked_code import LinkedCompiler, TeamCompiler

# Sums may be reordered (that is what vectorises them); NaN and inf keep their meaning.
FAST_SUMS = {"reassoc", "contract", "nsz"}
_LINKED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True,
                           "pipeline_class": LinkedCompiler}  # fmt: skip

# A function that Python calls; one that runs on all threads.
kernel = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy")
team_kernel = functools.partial(kernel, parallel=True, pipeline_class=TeamCompiler)
# A function that only compiled code calls; with reordered sums.
helper = numba.njit(nogil=True, error_model="numpy", **_LINKED)
fast_helper = numba.njit(nogil=True, error_model="numpy", fastmath=FAST_SUMS, **_LINKED)


def native_function(function: Any, arguments: Any) -> Any:
    """Compile a Numba function for arguments like these, for ``call_native``.

    Returns: [2] int64, its address and a fingerprint of the types. ``function``, which must live
        as long as the address is used, returns nothing.
    """
    signature = tuple(numba.typeof(argument) for argument in arguments)
    function.compile(signature)
    compiled = function.overloads[signature]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return np.array([address, _fingerprint(signature)], np.int64)


def _fingerprint(signature: tuple[Any, ...]) -> int:
    return zlib.crc32(str(signature).encode())


@intrinsic
def call_native(context, native, arguments):
    """Call a ``native_function`` with a tuple of arguments; True, or False where it is not made
    for arguments of these types, or raised."""
    signature = tuple(arguments.types)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = cgutils.create_struct_proxy(sig.args[0])(target, builder, args[0])
        address, fingerprint = (
            builder.load(cgutils.gep_inbounds(builder, array.data, place)) for place in range(2)
        )
        convention = target.call_conv
        kind = convention.get_function_type(types.none, signature)
        done = cgutils.alloca_once_value(builder, cgutils.false_bit)
        fits = builder.icmp_unsigned("==", fingerprint, fingerprint.type(_fingerprint(signature)))
        with builder.if_then(fits):
            function = builder.inttoptr(address, kind.as_pointer())
            values = cgutils.unpack_tuple(builder, args[1], len(signature))
            status, _ = convention.call_function(builder, function, types.none, signature, values)
            builder.store(status.is_ok, done)
        return builder.load(done)

    return types.boolean(native, arguments), generate
