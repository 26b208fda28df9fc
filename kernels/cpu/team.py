"""A team of threads that run one function side by side and wait for each other by looking.

Starting a parallel loop and waking its threads took 30 to 60 µs on two-core cloud machines, as
long as a layer's product; a step has 180 of them. Here one loop is started for all of a step, and
its threads meet in between at barriers of their own, which take less than a microsecond.

A member looks at the others' marks in memory, and lets other processes run when that takes long,
since there may be more threads than cores. Nobody waits for a thread that has not started: who is
late is left out, and the members share its work. So it ends whether OpenMP runs the loop on as
many threads as asked for or on one; in-between results must not depend on the number of members.
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["Team", "alone", "join", "meet", "new_marks"]

_helper = numba.njit(nogil=True, error_model="numpy")
_LINE = 8  # int64 in a cache line of 64 bytes
_GATE, _MEMBERS, _WAITING, _MEETINGS = (n * _LINE for n in range(4))
_CLOSED = 1 << 32  # in the gate, once it is closed
_LOOKS = 2_000  # at a mark before other processes are let in: some 40 µs
_START_LOOKS = 20_000  # for the others to start


class Team(NamedTuple):
    """One member's view of its team.

    Attributes:
        marks: [32] int64 that all members share, see ``new_marks``.
        member: 0 is the thread that called; -1 for one that came too late and must do nothing.
        members: how many there are.
    """

    marks: Any
    member: int
    members: int


def new_marks() -> Any:
    """Marks of a team that is to be joined once."""
    return np.zeros(4 * _LINE, np.int64)


def _pointer(target: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(target.make_array(kind)(target, builder, array).data, [index])


@intrinsic
def _add(context, marks, index, value):
    """marks[index] += value, at once for all threads; returns what it was."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _pointer(target, builder, sig.args[0], args[0], args[1])
        return builder.atomic_rmw("add", place, args[2], "acq_rel")

    return types.int64(marks, types.int64, types.int64), generate


@intrinsic
def _look(context, marks, index):
    """marks[index]; what was written before it was set is seen."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _pointer(target, builder, sig.args[0], args[0], args[1])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(marks, types.int64), generate


@intrinsic
def _set(context, marks, index, value):
    """Set marks[index]; who sees it sees what was written before."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _pointer(target, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], place, "release", 8)
        return target.get_dummy_value()

    return types.void(marks, types.int64, types.int64), generate


@intrinsic
def _pause(context):
    """Tell the core that this is a loop of looking."""
    machine = platform.machine().lower()

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        if machine in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        elif machine in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            name = "llvm.aarch64.hint"
            hint = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(hint, [ir.IntType(32)(1)])
        return target.get_dummy_value()

    return types.void(), generate


@intrinsic
def _let_others_run(context):
    """Give the core to another thread that waits for one, where the system has a call for it."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        if platform.system() != "Windows":
            kind = ir.FunctionType(ir.IntType(32), [])
            call = cgutils.get_or_insert_function(builder.module, kind, "sched_yield")
            builder.call(call, [])
        return target.get_dummy_value()

    return types.void(), generate


@_helper
def alone():
    """A team of one."""
    return Team(np.zeros(1, np.int64), 0, 1)


@_helper
def join(marks, place, wanted):
    """Join a team, as iteration ``place`` of a parallel loop over ``wanted``.

    Args:
        marks: of ``new_marks``, zeros.
        place: 0 for the member that closes the gate; its thread must be the caller's.
    """
    if place > 0:
        member = _add(marks, _GATE, 1) + 1
        if member >= _CLOSED:
            return Team(marks, -1, 0)
        members = _look(marks, _MEMBERS)
        while members == 0:
            _pause()
            members = _look(marks, _MEMBERS)
        return Team(marks, member, members)
    looks = 0
    while _look(marks, _GATE) < wanted - 1 and looks < _START_LOOKS:
        _pause()
        looks += 1
    members = _add(marks, _GATE, _CLOSED) + 1
    _set(marks, _MEMBERS, members)
    return Team(marks, 0, members)


@_helper
def meet(team):
    """Wait until all members are here; what they wrote before can be read after."""
    if team.members == 1:
        return
    meetings = _look(team.marks, _MEETINGS)
    if _add(team.marks, _WAITING, 1) == team.members - 1:
        _set(team.marks, _WAITING, 0)
        _set(team.marks, _MEETINGS, meetings + 1)
        return
    looks = 0
    while _look(team.marks, _MEETINGS) == meetings:
        _pause()
        looks += 1
        if looks > _LOOKS:
            _let_others_run()
