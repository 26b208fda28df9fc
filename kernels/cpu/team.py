"""A team of threads that run one compiled function side by side, with arguments of any form.

A parallel loop a product, 180 of them a step, cost 20 µs each between the other work of a step on
two-core cloud machines, as long as a product. Here one loop is started for all of a step, and its
threads meet in between, which takes less than a microsecond.

A member looks at the others' marks in memory, and lets other processes run when that takes long,
since there may be more threads than cores. Nobody waits for a thread that has not started: who is
late is left out, and the members share the work. So it ends whether OpenMP runs the loop on as
many threads as asked for or on one; results must not depend on how many members there are.

A loop on all threads takes arrays and numbers, and tuples only as so many of them. So the loop
passes on an address of the arguments, and calls the function by its own: what the function is made
of is then compiled once, not three times over with the loop.
"""

from __future__ import annotations

import platform
import zlib
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import emitted, helper, team_kernel
from kernels.cpu.numba_helpers import llvm_call

_LINE = 8  # int64 in a cache line of 64 bytes
_GATE, _MEMBERS, _WAITING, _MEETINGS, _GIVEN = (n * _LINE for n in range(5))
MARKS = 5 * _LINE  # int64, zeros, of a team that is joined once
_CLOSED = 1 << 32  # in the gate, once it is closed
_LOOKS = 2_000  # at a mark before other processes are let in: some 40 µs
_START_LOOKS = 20_000  # for the others to start
_MACHINE = platform.machine().lower()
_INT = types.int64
_CALLER = ir.FunctionType(ir.IntType(1), [ir.IntType(64)] * 4)  # see ``_call_of``


class Team(NamedTuple):
    """One member's view of its team."""

    marks: int  # address of the ``MARKS`` int64 that all members share
    member: int  # 0 for the first; -1 for who came too late and must do nothing
    members: int  # how many there are
    ahead: int  # pieces of weights from those that are read to those prefetched; see ``Tuning``


def _mark(builder: Any, marks: Any, number: Any) -> Any:
    """Pointer to the mark of an address and a number."""
    start = builder.inttoptr(marks.value, ir.IntType(64).as_pointer())
    return builder.gep(start, [number.value])


@emitted(_INT, marks=_INT, number=_INT, value=_INT)
def _add(builder, marks, number, value):
    """Add to a mark, at once for all threads; returns what it was."""
    return builder.atomic_rmw("add", _mark(builder, marks, number), value.value, "acq_rel")


@emitted(_INT, marks=_INT, number=_INT)
def _look(builder, marks, number):
    """A mark; what was written before it was set is seen."""
    return builder.load_atomic(_mark(builder, marks, number), "acquire", 8)


@emitted(marks=_INT, number=_INT, value=_INT)
def _set(builder, marks, number, value):
    """Set a mark; who sees it sees what was written before."""
    builder.store_atomic(value.value, _mark(builder, marks, number), "release", 8)


@emitted()
def _pause(builder):
    """Tell the core that a loop only looks."""
    if _MACHINE in ("x86_64", "amd64"):
        llvm_call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif _MACHINE in ("aarch64", "arm64"):
        llvm_call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.IntType(32)(1)])


@emitted()
def _let_others_run(builder):
    """Give the core to a thread that waits for one."""
    name = "SwitchToThread" if platform.system() == "Windows" else "sched_yield"
    llvm_call(builder, name, ir.IntType(32), [])


@helper
def _wait_while(marks, number, value):
    """Look at a mark until it is another value, and return that."""
    looks = 0
    mark: int = _look(marks, number)
    while mark == value:
        _pause()
        looks += 1
        if looks > _LOOKS:
            _let_others_run()
        mark = _look(marks, number)
    return mark


@helper
def join(marks, iteration, tuning):
    """Join a team, as one ``iteration`` of a parallel loop over ``tuning.threads``.

    Args:
        marks: address of ``MARKS`` zeros.
        iteration: 0 for who closes the gate; one thread must come to it before it comes to others.
        tuning: Tuning.
    """
    wanted, ahead = tuning
    if iteration > 0:
        member = _add(marks, _GATE, 1) + 1
        if member >= _CLOSED:
            return Team(marks, -1, 0, ahead)
        return Team(marks, member, _wait_while(marks, _MEMBERS, 0), ahead)
    looks = 0
    while _look(marks, _GATE) < wanted - 1 and looks < _START_LOOKS:
        _pause()
        looks += 1
    members = _add(marks, _GATE, _CLOSED) + 1
    _set(marks, _MEMBERS, members)
    return Team(marks, 0, members, ahead)


@helper
def meet(team):
    """Wait until all members are here; then each may read what the others wrote before."""
    if team.members == 1:
        return
    meetings: int = _look(team.marks, _MEETINGS)
    if _add(team.marks, _WAITING, 1) == team.members - 1:
        _set(team.marks, _WAITING, 0)
        _set(team.marks, _MEETINGS, meetings + 1)
    else:
        _wait_while(team.marks, _MEETINGS, meetings)


@helper
def from_first(team, number):
    """The first member's number, which all get when they have met; int64."""
    if team.member == 0:
        _set(team.marks, _GIVEN, number)
    meet(team)
    return _look(team.marks, _GIVEN)


def native_function(function: Any, arguments: Any) -> Any:
    """Compile ``function(iteration, marks, arguments)`` for such arguments, for ``team_call``.

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


def _borrowed(target: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The same arrays without their owners: members that count references to one array wait for
    each other's counts. ``team_call`` keeps the arrays until all have returned."""
    if isinstance(kind, types.Array):
        array = cgutils.create_struct_proxy(kind)(target, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        parts: Any = kind
        for index, part in enumerate(parts):
            item = _borrowed(target, builder, part, builder.extract_value(value, index))
            value = builder.insert_value(value, item, index)
    return value


@emitted(types.UniTuple(_INT, 3))
def _call_of(builder, native, arguments):
    """Numbers by which a loop on all threads, which takes no tuples, calls a ``native_function``.

    Returns: the addresses of a function of an iteration and two addresses, of the native function
        (0 where that is made for arguments of other types), and of the arguments, which this call
        keeps in the memory of the function it stands in.
    """
    number, (target, _, kind, value) = ir.IntType(64), arguments
    array = native.array()
    address, fingerprint = (
        builder.load(cgutils.gep_inbounds(builder, array.data, index)) for index in range(2)
    )
    fits = builder.icmp_unsigned("==", fingerprint, number(_fingerprint(kind)))
    held = cgutils.alloca_once_value(builder, value)
    caller = ir.Function(builder.module, _CALLER, builder.module.get_unique_name("call"))
    caller.linkage = "private"
    inside = ir.IRBuilder(caller.append_basic_block())
    iteration, marks, at, function = caller.args
    convention, signature = target.call_conv, (_INT, _INT, kind)
    pointer = convention.get_function_type(types.none, signature).as_pointer()
    loaded = inside.load(inside.inttoptr(at, held.type))
    values = [iteration, marks, _borrowed(target, inside, kind, loaded)]
    function = inside.inttoptr(function, pointer)
    status, _ = convention.call_function(inside, function, types.none, signature, values)
    inside.ret(status.is_ok)
    numbers = [
        builder.ptrtoint(caller, number),
        builder.select(fits, address, number(0)),
        builder.ptrtoint(held, number),
    ]
    return target.make_tuple(builder, types.UniTuple(_INT, 3), numbers)


@emitted(types.boolean, caller=_INT, function=_INT, held=_INT, iteration=_INT, marks=_INT)
def _call(builder, caller, function, held, iteration, marks):
    """Call an iteration of a ``_call_of``; whether nothing was raised."""
    pointer = builder.inttoptr(caller.value, _CALLER.as_pointer())
    given = iteration, marks, held, function
    return builder.call(pointer, [argument.value for argument in given])


@emitted()
def _used(builder, arguments):
    """Nothing: Numba frees arrays after what uses them last."""


@team_kernel
def team_call(native, threads, arguments):
    """Run a ``native_function`` as a team of at most so many threads.

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
        for iteration in numba.prange(threads):
            if not _call(caller, function, held, np.int64(iteration), at):
                done[0] = False
    _used(marks)
    _used(arguments)
    return done[0]


_NATIVE: dict[Any, Any] = {}  # of functions that teams ran, by the kinds of their arguments


def run_as_team(function: Any, kinds: Any, arguments: Any) -> None:
    """Run ``function(iteration, marks, arguments)`` as a team.

    Args:
        kinds: tell arguments of different types apart; the function is compiled for each.
        arguments: as of ``team_call``; the last is the Tuning, of whose threads the team gets those
            that Numba may use now.
    """
    *others, tuning = arguments
    tuning = tuning._replace(threads=min(tuning.threads, numba.get_num_threads()))
    arguments = (*others, tuning)
    if (function, kinds) not in _NATIVE:
        _NATIVE[function, kinds] = native_function(function, arguments)
    if not team_call(_NATIVE[function, kinds], tuning.threads, arguments):
        raise TypeError(f"arguments of other types than {function.__name__} takes")
