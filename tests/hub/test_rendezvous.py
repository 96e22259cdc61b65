"""Where the control socket is looked for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hub.rendezvous import default_control, find_control


def leave_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_runtime_directory_of_the_login_comes_first(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default_control(4464, environ) == f"ipc://{tmp_path}/tuttihub-4464"


def test_useless_runtime_directory_is_passed_over(tmp_path: Path) -> None:
    for useless in ("", "relative", str(tmp_path / "missing")):
        environ = {"XDG_RUNTIME_DIR": useless}
        assert default_control(4470, environ) == "ipc:///tmp/tuttihub-4470"


def test_socket_in_the_shared_place_is_found(tmp_path: Path) -> None:
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    mine.mkdir()
    shared.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(mine)}
    leave_socket(shared / "tuttihub-4470")
    (mine / "tuttihub-4470").write_text("no socket")
    assert find_control(4470, environ, shared) == f"ipc://{shared}/tuttihub-4470"


def test_a_service_is_found(tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    leave_socket(service / "tuttihub-4470")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    found = find_control(4470, environ, tmp_path, service)
    assert found == f"ipc://{service}/tuttihub-4470"


def test_no_socket_anywhere_is_the_default(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert find_control(1, environ, tmp_path) == default_control(1, environ)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a socket somebody else's")
def test_a_strangers_socket_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "own")}
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(tmp_path / "tuttihub-1"))
        os.chown(tmp_path / "tuttihub-1", 54321, -1)
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert find_control(1, environ, tmp_path) == default_control(1, environ)
