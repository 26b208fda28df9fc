"""Triton's interpreter without what it does over and over to no effect: the same numbers sooner."""

import contextlib
import inspect
from unittest.mock import patch


@contextlib.contextmanager
def quick_interpreter():
    """Within it, kernels are interpreted in about a third of the time."""
    from triton.language import core, semantic
    from triton.runtime import interpreter

    if not hasattr(interpreter, "_LangPatchScope"):  # Triton 3.4, as slow as it is
        with patch.object(interpreter, "_patch_lang_tensor", _whole_index(interpreter)):
            yield
        return
    meaning = semantic.TritonSemantic
    with (
        patch.object(interpreter, "_patch_lang_tensor", _whole_index(interpreter)),
        patch.object(interpreter, "_patch_lang", _once_a_launch(interpreter)),
        patch.object(interpreter, "_get_np_dtype", _numpy_types_by_name(interpreter, core)),
        patch.object(meaning, "binary_op_sanitize_overflow_impl", _overflow_check(meaning)),
    ):
        yield


def _whole_index(interpreter):
    """Up to Triton 3.6, a number is taken out of its array in a way that NumPy 2.4 refuses."""
    patch_tensor = interpreter._patch_lang_tensor

    def patch_index_too(tensor, *scope):
        patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    return patch_index_too


def _once_a_launch(interpreter):
    """Triton's interpreter puts its own operations into ``triton.language`` when a kernel is
    launched, and again, to no effect, when the kernel calls a helper: half of all its time.
    """
    patch_language = interpreter._patch_lang
    languages = {id(interpreter.tl), id(interpreter.tl.core)}
    patched = set()  # modules of the language, in the launch that goes on
    named = {}  # of a function's module

    def patch_once(function):
        names = function.__globals__
        if id(names) not in named:
            seen = {id(one) for one in names.values() if inspect.ismodule(one)}
            named[id(names)] = names, seen & languages
        seen = named[id(names)][1]
        if patched and not seen - patched:
            return interpreter._LangPatchScope()
        is_launch = not patched
        scope = patch_language(function)
        patched.update(seen)
        if is_launch:
            restore = scope.restore

            def end():
                restore()
                patched.clear()

            scope.restore = end
        return scope

    return patch_once


def _overflow_check(meaning):
    """A sum's overflow is computed, with seven operations, for an assertion that nothing is done
    with unless the options say that this is debugging."""
    check = meaning.binary_op_sanitize_overflow_impl

    def check_where_it_is_heard(self, *operands):
        if self.builder.options.debug:
            check(self, *operands)

    return check_where_it_is_heard


def _numpy_types_by_name(interpreter, core):
    """A table of all types is built for each operation."""
    look_up = interpreter._get_np_dtype
    known = {}

    def numpy_type(kind):
        element = kind.element_ty if isinstance(kind, core.block_type) else kind
        if element.name not in known:
            known[element.name] = look_up(element)
        return known[element.name]

    return numpy_type
