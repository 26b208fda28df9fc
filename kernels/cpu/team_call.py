"""One compiled function run by all members of a team, with arguments of any form; in Numba.

A loop on all threads takes arrays and numbers, and tuples only as so many of them. So the loop
passes on an address of the arguments, and calls the function by its own: what the function is made
of is then compiled once, not three times over with the loop.
"""

from __future__ import annotations

import zlib
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.compiling import team_kernel
from kernels.cpu.team import MARKS


def native_function(function: Any, arguments: Any) -> Any:
    """Compile ``function(place, marks, arguments)`` for arguments like these, for ``team_call``.

    Returns: [2] int64, its address and a fingerprint of the types. ``function``, which must live
        as long as the address is used, returns nothing.
    """
    kind = numba.typeof(arguments)
    signature = (types.int64, types.int64, kind)
    function.compile(signature)
    compiled = function.overloads[signature]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return np.array([address, _fingerprint(kind)], np.int64)


def _fingerprint(kind: Any) -> int:
    return zlib.crc32(str(kind).encode())


@intrinsic
def _call_of(context, native, arguments):
    """Numbers by which a loop on all threads, which takes no tuples, calls a ``native_function``.

    Returns: the addresses of a function of a place and two addresses, of the native function (0
        where that is made for arguments of other types), and of the arguments, which this call
        keeps in the memory of the function it stands in.
    """
    number, kind = ir.IntType(64), arguments

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = cgutils.create_struct_proxy(sig.args[0])(target, builder, args[0])
        address, fingerprint = (
            builder.load(cgutils.gep_inbounds(builder, array.data, place)) for place in range(2)
        )
        fits = builder.icmp_unsigned("==", fingerprint, number(_fingerprint(kind)))
        held = cgutils.alloca_once_value(builder, args[1])
        outer = ir.FunctionType(ir.IntType(1), [number] * 4)
        caller = ir.Function(builder.module, outer, builder.module.get_unique_name("call"))
        caller.linkage = "private"
        inside = ir.IRBuilder(caller.append_basic_block())
        place, marks, at, function = caller.args
        convention, signature = target.call_conv, (types.int64, types.int64, kind)
        pointer = convention.get_function_type(types.none, signature).as_pointer()
        values = [place, marks, inside.load(inside.inttoptr(at, held.type))]
        function = inside.inttoptr(function, pointer)
        status, _ = convention.call_function(inside, function, types.none, signature, values)
        inside.ret(status.is_ok)
        numbers = [
            builder.ptrtoint(caller, number),
            builder.select(fits, address, number(0)),
            builder.ptrtoint(held, number),
        ]
        return target.make_tuple(builder, sig.return_type, numbers)

    return types.UniTuple(types.int64, 3)(native, arguments), generate


@intrinsic
def _call(context, caller, function, held, place, marks):
    """Call a place of a ``_call_of``; whether nothing was raised."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = ir.IntType(64)
        kind = ir.FunctionType(ir.IntType(1), [number] * 4)
        caller, function, held, place, marks = args
        pointer = builder.inttoptr(caller, kind.as_pointer())
        return builder.call(pointer, [place, marks, held, function])

    return types.boolean(*[types.int64] * 5), generate


@intrinsic
def _used(context, arguments):
    """Nothing: Numba frees arrays after what uses them last."""
    return types.void(arguments), lambda target, builder, sig, args: target.get_dummy_value()


@team_kernel
def team_call(native, threads, arguments):
    """Run a ``native_function`` as a team (``team.py``) of at most so many threads.

    Args:
        native: as ``native_function`` returns it.
        arguments: a tuple of arrays, numbers and tuples, passed on to each member as it is.
    Returns: whether it is made for arguments of these types and nothing was raised.
    """
    marks = np.zeros(MARKS, np.int64)
    call: Any = _call_of(native, arguments)
    caller, function, held = call
    done = np.full(1, function != 0)
    if done[0]:
        at: int = marks.ctypes.data
        for place in numba.prange(threads):
            if not _call(caller, function, held, np.int64(place), at):
                done[0] = False
    _used(marks)
    _used(arguments)
    return done[0]
