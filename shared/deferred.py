"""Machine code only for kernels that Python calls; those that kernels call are parts of it.

numba links, optimises and emits every kernel as if Python would call it, and once more as a
part of each kernel that calls it: a kernel ten calls deep is compiled eleven times. Here
numba's front end makes a *part* of each kernel, once a process. When Python calls a kernel, its
part and those of all that it calls are linked, optimised and emitted together: its *code*, which
alone is kept in the cache.

    called by a kernel ► front end ► part
    called by Python ──► front end ► part ──┬──► link ─► optimise ─► emit ─► code
                         parts it calls ────┘

This hangs on inner parts of numba's compiler that it does not document: ``pyproject.toml``
says which releases are known to fit, and tests/shared/test_deferred.py asks for what is
expected of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba import _dynfunc, types
from numba.core import sigutils
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.typing import make_concrete_template

_context = cpu_target.target_context
_codegen = _context.codegen()
_get_executable, _set_environment = _context.get_executable, _codegen.set_env
_create_wrapper = _context.create_cpython_wrapper


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Code that is linked, optimised and emitted when somebody wants its address."""

    _emitted = False
    _linking_libraries: list[_Library]

    def _optimize_functions(self, ll_module: Any) -> None:
        pass  # one function at a time; that of the whole module does the same and more

    def finalize(self) -> None:
        """Nothing is added any more."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Address of a function of this code; 0 if there is none of this name."""
        self.emit()
        return int(super().get_pointer_to_function(name))

    def emit(self) -> None:
        """Link with all that it calls, optimise, turn into machine code; once."""
        self._ensure_finalized()
        if self._emitted:
            return
        with global_compiler_lock:
            self._emitted = True
            self._finalized = False
            self._shared_module = None
            self._linking_libraries = _callers_first(self._linking_libraries)
            super().finalize()
            for variable in self._final_module.global_variables:
                environment = lookup_environment(variable.name)
                if environment is not None:
                    _environment(variable.name, environment)

    def serialize_using_object_code(self) -> tuple[Any, ...]:
        """What a cache keeps: machine code, and the names of all that is in it."""
        module = self._final_module
        everything = (*module.functions, *module.global_variables)
        names = [value.name for value in everything if not value.is_declaration]
        return self.name, "object", (self._get_compiled_object(), names)

    @classmethod
    def _unserialize(cls, codegen: Any, state: tuple[Any, ...]) -> Any:
        name, _, (machine_code, names) = state
        self = codegen.create_library(name)
        self.enable_object_caching()
        self._set_compiled_object(machine_code)
        self._emitted = True
        codegen._engine._defined_symbols.update(names)
        self._finalize_final_module()
        return self


def _callers_first(libraries: Iterable[_Library]) -> list[_Library]:
    """These and all that they call, each once: LLVM links only what is wanted already."""
    callees_first: dict[_Library, None] = {}

    def visit(library: _Library) -> None:
        if library not in callees_first:
            for needed in library._linking_libraries:
                visit(needed)
            callees_first[library] = None

    for library in libraries:
        visit(library)
    return [*callees_first][::-1]


_parts_in_work = 0
"""Parts that are being compiled, each called by the one before."""


def _executable(library: Any, description: Any, environment: Any) -> Any:
    """numba's way from code to a function for Python; a part has none, only something to be
    known by."""
    if not _parts_in_work or library._emitted:
        return _get_executable(library, description, environment)
    module, name = description.lookup_module(), description.qualname
    return _dynfunc.make_function(module, name, "", 0, environment, (library,))


def _wrapper(*arguments: Any, **options: Any) -> None:
    """numba's way into code from Python, which a part does not have."""
    if not _parts_in_work:
        _create_wrapper(*arguments, **options)


def _environment(name: str, environment: Any) -> None:
    """Tell machine code, where there is any yet, of its module's globals."""
    if _codegen._engine.is_symbol_defined(name):
        _set_environment(name, environment)


class DeferredDispatcher(CPUDispatcher):  # type: ignore[misc]
    """A compiled function whose machine code is made when Python first calls it.

    Args:
        function: to be compiled.
        targetoptions: as ``numba.jit`` has them.

    Attributes:
        parts: what this process compiled, by types of arguments.
    """

    def __init__(self, function: Any, locals: Any = None, targetoptions: Any = None) -> None:
        super().__init__(function, locals, targetoptions)
        self.parts: dict[tuple[Any, ...], Any] = {}

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What a kernel that calls this one is told of it, which is compiled if need be."""
        signature, kinds = self._compiler.fold_argument_types(args, kws)
        kinds = tuple(_any_number(kind) for kind in kinds)
        part = self._part(kinds)
        name = self.py_func.__name__
        template = make_concrete_template(name, key=name, signatures=[part.signature])
        return template, signature, kinds, {}

    def get_overload(self, sig: Any) -> Any:
        """What the part of a signature is known by."""
        return self._part(tuple(sigutils.normalize_signature(sig)[0])).entry_point

    def _part(self, kinds: tuple[Any, ...]) -> Any:
        global _parts_in_work
        with global_compiler_lock:
            if kinds not in self.parts:
                _parts_in_work += 1
                try:
                    self.parts[kinds] = self._compiler.compile(kinds, None)
                finally:
                    _parts_in_work -= 1
            return self.parts[kinds]

    def _kept(self, signature: Any) -> Any:
        """Machine code from the cache, None if it is not there.

        numba's own ``load_overload`` begins with learning all that a compiler must know, which
        takes longer than the rest; whoever compiles learns that all the same.
        """
        if isinstance(self._cache, NullCache):
            return None
        with self._cache._guard_against_spurious_io_errors():
            return self._cache._load_overload(signature, self.targetctx)

    def compile(self, sig: Any) -> Any:
        """The entry point for a signature, compiled if need be.

        Raises:
            RuntimeError: it would have to be compiled, which is forbidden.
        """
        kinds = tuple(sigutils.normalize_signature(sig)[0])
        with global_compiler_lock:
            if kinds not in self.overloads:
                if not self._can_compile:
                    raise RuntimeError("compilation disabled")
                code = self._kept(sig)
                if code is None:
                    code = _emit(self._part(kinds))
                    self._cache.save_overload(sig, code)
                self.add_overload(code)
        return self.overloads[kinds].entry_point


def _any_number(kind: Any) -> Any:
    """The type of an argument that is a constant, without its value.

    numba would compile a kernel anew for each number or truth that others call it with, though
    LLVM puts the value into what it inlines all the same.
    """
    constant = isinstance(kind, types.IntegerLiteral | types.BooleanLiteral)
    return types.unliteral(kind) if constant else kind


def _emit(part: Any) -> Any:
    """Machine code of a part and of all that it calls, with a way in for Python."""
    description, environment = part.fndesc, part.environment
    library = _codegen.create_library(part.library.name)
    library.enable_object_caching()
    _create_wrapper(library, description, environment, None, release_gil=True)
    library.add_linking_library(part.library)
    entry = _get_executable(library, description, environment)
    return part._replace(library=library, entry_point=entry)


_codegen._library_class = _Library
_codegen.set_env = _environment
_context.get_executable = _executable
_context.create_cpython_wrapper = _wrapper
