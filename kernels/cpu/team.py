"""A team of threads that run one function side by side and wait for each other by looking.

A parallel loop a product, 180 of them a step, cost 20 µs each between the other work of a step on
two-core cloud machines, as long as a product. Here one loop is started for all of a step, and its
threads meet in between, which takes less than a microsecond.

A member looks at the others' marks in memory, and lets other processes run when that takes long,
since there may be more threads than cores. Nobody waits for a thread that has not started: who is
late is left out, and the members share the work. So it ends whether OpenMP runs the loop on as
many threads as asked for or on one; results must not depend on how many members there are.
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import llvm_call

_LINE = 8  # int64 in a cache line of 64 bytes
_GATE, _MEMBERS, _WAITING, _MEETINGS, _GIVEN = (n * _LINE for n in range(5))
MARKS = 5 * _LINE  # int64, zeros, of a team that is joined once
_CLOSED = 1 << 32  # in the gate, once it is closed
_LOOKS = 2_000  # at a mark before other processes are let in: some 40 µs
_START_LOOKS = 20_000  # for the others to start
_MACHINE = platform.machine().lower()


class Team(NamedTuple):
    """One member's view of its team."""

    marks: int  # address of the ``MARKS`` int64 that all members share
    member: int  # 0 for the first; -1 for who came too late and must do nothing
    members: int  # how many there are
    ahead: int  # pieces of weights that each asks memory for beforehand; see ``Tuning``


def _mark(builder: Any, args: Any) -> Any:
    """Pointer to the mark of an address and a number."""
    marks = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
    return builder.gep(marks, [args[1]])


@intrinsic
def _add(context, marks, number, value):
    """Add to a mark, at once for all threads; returns what it was."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _mark(builder, args), args[2], "acq_rel")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def _look(context, marks, number):
    """A mark; what was written before it was set is seen."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_mark(builder, args), "acquire", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _set(context, marks, number, value):
    """Set a mark; who sees it sees what was written before."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _mark(builder, args), "release", 8)
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _pause(context):
    """Tell the core that a loop only looks."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _MACHINE in ("x86_64", "amd64"):
            llvm_call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif _MACHINE in ("aarch64", "arm64"):
            llvm_call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.IntType(32)(1)])
        return target.get_dummy_value()

    return types.void(), generate


@intrinsic
def _let_others_run(context):
    """Give the core to a thread that waits for one."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = "SwitchToThread" if platform.system() == "Windows" else "sched_yield"
        llvm_call(builder, name, ir.IntType(32), [])
        return target.get_dummy_value()

    return types.void(), generate


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
def join(marks, place, tuning):
    """Join a team, as iteration ``place`` of a parallel loop over ``tuning.threads``.

    Args:
        marks: address of ``MARKS`` zeros.
        place: 0 for who closes the gate; one thread must come to it before it comes to others.
        tuning: Tuning.
    """
    wanted, ahead = tuning
    if place > 0:
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
