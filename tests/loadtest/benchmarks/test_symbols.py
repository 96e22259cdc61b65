"""Names of machine code in memory, with code that numba has just made."""

from __future__ import annotations

import os
import struct

import pytest

from loadtest.benchmarks.symbols import (
    Code,
    Function,
    Image,
    Names,
    ObjectError,
    codes_of,
    images,
    located,
    names_in,
    place_of,
)
from shared.deferred import DeferredDispatcher


def _doubled(x):  # type: ignore[no-untyped-def]
    total = x
    for k in range(x):
        total = (total * 3 + k) ^ (total >> 5)
    return total


def test_functions_are_named_where_they_are_in_memory() -> None:
    dispatcher = DeferredDispatcher(_doubled, targetoptions={"nopython": True, "_nrt": False})
    dispatcher.compile("int64(int64)")
    (code,) = dispatcher.overloads.values()
    entry = code.library.get_pointer_to_function(code.fndesc.llvm_func_name)

    names = names_in(images(os.getpid()), [code.library._get_compiled_object()])

    assert "_doubled" in place_of(names.at(entry))
    assert names.at(0) == ""


def test_code_is_not_found_where_it_is_not() -> None:
    code = Code(bytes(range(256)) * 4, (Function(0, 16, "f"),))
    assert located(code, [Image(4096, bytes(2048))]) == []


def test_addresses_between_functions_have_no_name() -> None:
    names = Names([Function(100, 110, "f"), Function(120, 130, "g")])
    assert [names.at(at) for at in (99, 100, 109, 110, 119, 120, 130)] == [
        "", "f", "f", "", "", "g", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"", b"MZ" + bytes(100), b"\x7fELF\x02\x01" + bytes(20),
                b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", 10**6) + bytes(10)
                + struct.pack("<HH", 64, 9) + bytes(8)],
)  # fmt: skip
def test_what_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(ObjectError):
        codes_of(content)


def test_mangled_names_are_read() -> None:
    assert place_of("_ZN7workers3pcm6encodeB3v12E") == "workers.pcm.encode"
    assert place_of("memcpy") == "memcpy"
