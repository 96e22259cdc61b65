"""Machine code only for kernels that Python calls; those that kernels call are linked, not emitted.

numba optimises and emits every kernel as if Python would call it, and once more as a part of
each kernel that calls it: a kernel ten calls deep is compiled eleven times. Here a kernel that
is compiled because another calls it stays what numba's front end made of it, and is optimised
once, as a part of the loop that Python enters. Should Python call it after all, as tests do,
it is finished then.

    called by Python ──► front end ─► link ─► optimise ─► emit
    called by a kernel ► front end ─► link ──► ... as part of its caller
                                        └──► optimise ─► emit, should Python call it later

This hangs on inner parts of numba's compiler that it does not document: ``pyproject.toml``
says which releases are known to fit, and tests/shared/test_deferred.py asks for what is
expected of them.
"""

from __future__ import annotations

from typing import Any

from numba.core import sigutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher, cpu_target


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Code that is linked when it is complete, and emitted when somebody wants its address."""

    _emitting = False

    def _optimize_functions(self, ll_module: Any) -> None:
        pass  # one function at a time; that of the whole module does the same and more

    def _optimize_final_module(self) -> None:
        if self._emitting:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        if self._emitting:
            super()._finalize_final_module()
        else:
            self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Address of a function of this code; 0 if there is none of this name."""
        self.emit()
        return int(super().get_pointer_to_function(name))

    def emit(self) -> bool:
        """Optimise and turn into machine code; False when that had been done."""
        self._ensure_finalized()
        if self._emitting:
            return False
        with global_compiler_lock:
            self._emitting = True
            self._optimize_final_module()
            self._final_module.verify()
            self._finalize_final_module()
            for variable in self._final_module.global_variables:
                environment = lookup_environment(variable.name)
                if environment is not None:
                    self.codegen.set_env(variable.name, environment)
        return True

    def serialize_using_object_code(self) -> tuple[Any, ...]:
        """What a cache keeps: machine code where there is any, else what it is made of."""
        if self._emitting:
            return tuple(super().serialize_using_object_code())
        return tuple(self.serialize_using_bitcode())

    def _set_compiled_object(self, value: bytes) -> None:
        super()._set_compiled_object(value)
        self._emitting = True  # it came from a cache


class _Pending:
    """Stands for the entry point of a kernel that Python has not called."""


_nested = 0
_context = cpu_target.target_context
_codegen = _context.codegen()
_get_executable, _set_environment = _context.get_executable, _codegen.set_env


def _executable(library: Any, description: Any, environment: Any) -> Any:
    """numba's way from code to a function for Python, put off where no Python has called."""
    if _nested and not description.modname.startswith("numba."):
        return _Pending()
    return _get_executable(library, description, environment)


def _environment(name: str, environment: Any) -> None:
    """Tell machine code, where there is any yet, of its module's globals."""
    if _codegen._engine.is_symbol_defined(name):
        _set_environment(name, environment)


class DeferredDispatcher(CPUDispatcher):  # type: ignore[misc]
    """A compiled function whose machine code is made when Python first calls it."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile for a kernel that calls this one."""
        global _nested
        _nested += 1
        try:
            return super().get_call_template(args, kws)
        finally:
            _nested -= 1

    def add_overload(self, cres: Any) -> None:
        """Take note of a signature; only one with machine code can be called from Python."""
        if isinstance(cres.entry_point, _Pending):
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)

    def compile(self, sig: Any) -> Any:
        """The entry point for a signature, compiled if need be.

        Raises:
            RuntimeError: it would have to be compiled, which is forbidden.
        """
        key = tuple(sigutils.normalize_signature(sig)[0])
        if key not in self.overloads:
            super().compile(sig)
        known = self.overloads[key]
        if _nested == 0 and isinstance(known.entry_point, _Pending):
            return self._finish(sig, known)
        return known.entry_point

    def _finish(self, sig: Any, known: Any) -> Any:
        """Emit what was only linked, and keep it in the cache in the place of that."""
        with global_compiler_lock:
            known.library.enable_object_caching()
            emitted = known.library.emit()
            entry = _get_executable(known.library, known.fndesc, known.environment)
            finished = known._replace(entry_point=entry)
            self.targetctx.insert_user_function(entry, finished.fndesc, [finished.library])
            super().add_overload(finished)
            if emitted:
                self._cache.save_overload(sig, finished)
        return entry


_codegen._library_class = _Library
_codegen.set_env = _environment
_context.get_executable = _executable
