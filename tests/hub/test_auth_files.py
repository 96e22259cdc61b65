"""Certificate, key and users: refused with a reason, watched, and made by the two commands."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from hub.addresses import Peer
from hub.auth.authority import AuthFiles, Authority
from hub.auth.certificate import self_signed
from hub.auth.passwords import new_hash
from hub.auth.results import Login
from hub.auth.tls import load_identity
from hub.auth.users import read_users
from hub.cli import cli
from hub.resolving import make_config
from hub.setting import ConfigError
from shared.credentials import Credentials

HASH = new_hash(b"wieck")
HOME = Peer(ip_address("127.0.0.1"), 40000, ip_address("127.0.0.1"))
CHANGE_S = 20.0
"""Far longer than the second after which a change is to hold."""


@pytest.fixture(scope="module")
def pairs() -> list[tuple[bytes, bytes]]:
    """Two certificates and their keys."""
    return [self_signed("127.0.0.1", 30), self_signed("hub.example.org", 60)]


@pytest.fixture
def files(pairs: list[tuple[bytes, bytes]], tmp_path: Path) -> AuthFiles:
    named = AuthFiles(tmp_path / "hub.crt", tmp_path / "hub.key", tmp_path / "users")
    named.certificate.write_bytes(pairs[0][0])
    named.key.write_bytes(pairs[0][1])
    named.users.write_text(f"clara:{HASH}:*\n")
    return named


def tuttihub(*args: str | Path, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, prog_name="tuttihub")


def openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


# ---- at start


def test_a_pair_of_openssls_is_good(tmp_path: Path) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=hub", "-days", "5",
            "-keyout", key, "-out", certificate)  # fmt: skip
    identity = load_identity(certificate, key)
    assert 4 < (identity.expires_s - datetime.now().timestamp()) / 86400 < 6
    assert identity.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_wrong_files_are_refused_by_option_path_and_reason(
    files: AuthFiles, pairs: list[tuple[bytes, bytes]], tmp_path: Path
) -> None:
    elliptic, locked, other = tmp_path / "ec", tmp_path / "locked", tmp_path / "other"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", elliptic)
    openssl("rsa", "-aes128", "-passout", "pass:x", "-in", files.key, "-out", locked)
    other.write_bytes(pairs[1][1])
    missing, directory = tmp_path / "missing", tmp_path
    for changed, option, path, problem in (
        (AuthFiles(missing, files.key, files.users), "--certfile", missing, "cannot be read: No"),
        (AuthFiles(directory, files.key, files.users), "--certfile", directory, "cannot be read"),
        (AuthFiles(files.key, files.key, files.users), "--certfile", files.key,
         "begins with no certificate"),
        (AuthFiles(files.certificate, missing, files.users), "--keyfile", missing, "cannot be"),
        (AuthFiles(files.certificate, files.users, files.users), "--keyfile", files.users,
         "holds no private key in PEM form"),
        (AuthFiles(files.certificate, elliptic, files.users), "--keyfile", elliptic,
         "is no RSA key"),
        (AuthFiles(files.certificate, locked, files.users), "--keyfile", locked, "passphrase"),
        (AuthFiles(files.certificate, other, files.users), "--keyfile", other, "does not belong"),
        (AuthFiles(files.certificate, files.key, missing), "--credsfile", missing, "cannot be"),
        (AuthFiles(files.certificate, files.key, files.key), "--credsfile", files.key,
         "has no line that is user:hash:times"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            Authority(changed)
        assert caught.value.option == option
        assert caught.value.value == str(path)
        assert problem in caught.value.problem, problem


def test_auth_needs_all_three_files(files: AuthFiles) -> None:
    with pytest.raises(ConfigError, match=r"^--auth needs --keyfile and --credsfile; "):
        make_config(auth=True, cert_file=str(files.certificate))
    config = make_config(
        auth=True,
        cert_file=str(files.certificate),
        key_file=str(files.key),
        creds_file=str(files.users),
    )
    assert config.creds_file == files.users


def test_a_hub_does_not_start_without_its_files(files: AuthFiles) -> None:
    result = tuttihub(
        "serve", "-A", "--certfile", files.certificate, "--keyfile", "/nowhere/hub.key",
        "--credsfile", files.users,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "--keyfile: '/nowhere/hub.key' cannot be read: No such file" in result.output


# ---- while it runs


async def becomes(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(CHANGE_S):
        while not condition():
            await asyncio.sleep(0.02)


def test_users_are_reloaded_and_a_broken_file_is_not(files: AuthFiles) -> None:
    async def run() -> None:
        authority = Authority(files)
        authority.start()

        def users() -> list[str]:
            return sorted(authority.users.by_name)

        try:
            files.users.write_text(f"clara:{HASH}:*\nrobert:{HASH}:*\n")
            await becomes(lambda: users() == ["clara", "robert"])

            replacement = files.users.with_suffix(".new")
            replacement.write_text(f"robert:{HASH}:*\n# clara has left\nbroken line\n")
            replacement.replace(files.users)
            await becomes(lambda: users() == ["robert"])

            with capture_logs() as logs:
                files.users.write_bytes(b"\xff\xfe no text")
                await becomes(lambda: said(logs, "users are not reloaded: the old ones hold") == 1)
                files.users.unlink()
                await becomes(lambda: said(logs, "users are not reloaded: the old ones hold") == 2)
            claim = Credentials(4464, "", "robert", b"wieck")
            assert await authority.check(claim, HOME) is Login.OK

            files.users.write_text(f"clara:{HASH}:*\n")
            await becomes(lambda: users() == ["clara"])
            assert await authority.check(claim, HOME) is Login.WRONG_CREDENTIALS
        finally:
            await authority.close()

    asyncio.run(run())


def said(logs: Sequence[Mapping[str, Any]], event: str) -> int:
    return sum(entry["event"] == event for entry in logs)


def test_a_certificate_is_reloaded_once_its_key_fits(
    files: AuthFiles, pairs: list[tuple[bytes, bytes]]
) -> None:
    async def run() -> None:
        authority = Authority(files)
        authority.start()
        before = authority.identity
        try:
            with capture_logs() as logs:
                files.certificate.write_bytes(pairs[1][0])
                await becomes(lambda: said(logs, "certificate is not reloaded: the old one holds"))
                assert authority.identity is before
                files.key.write_bytes(pairs[1][1])
                await becomes(lambda: said(logs, "certificate is reloaded"))
            assert authority.context is not before.context
            assert authority.identity.expires_s > before.expires_s
        finally:
            await authority.close()

    asyncio.run(run())


def test_what_is_worth_knowing_is_said_at_start(files: AuthFiles) -> None:
    files.users.write_text(f"clara:{HASH}:*\nnonsense\n")
    files.users.chmod(0o644)
    files.certificate.write_bytes(files.certificate.read_bytes())

    async def run() -> None:
        authority = Authority(files)
        authority.start()
        await authority.close()

    with capture_logs() as logs:
        asyncio.run(run())
    events = {entry["event"]: entry for entry in logs}
    assert events["users may join"]["users"] == 1
    assert events["line of users"]["line"] == 2
    assert events["everybody on this machine can read"]["advice"] == f"chmod 600 {files.users}"


# ---- the commands


def test_passwd_adds_changes_lists_and_removes(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert tuttihub("passwd", path, "clara", stdin="wieck\n").exit_code == 0
    assert tuttihub("passwd", path, "robert", "--times", "Mo*", stdin="x\n").exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("# us\n" + path.read_text())
    hash_before = read_users(path).by_name["clara"].digest

    listed = tuttihub("passwd", path)
    assert listed.output == "clara   *\nrobert  Mo*\n"

    assert tuttihub("passwd", path, "clara", "--times", "").exit_code == 0
    assert read_users(path).by_name["clara"].digest == hash_before
    assert tuttihub("passwd", path).output == "clara   never\nrobert  Mo*\n"

    assert tuttihub("passwd", path, "clara", stdin="other\n").exit_code == 0
    assert read_users(path).by_name["clara"].digest != hash_before
    assert tuttihub("passwd", path, "robert", "--remove").exit_code == 0
    assert path.read_text().startswith("# us\nclara:$6$")
    assert list(read_users(path).by_name) == ["clara"]
    assert os.listdir(tmp_path) == ["users"]


def test_passwd_leaves_a_file_to_those_who_read_it(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("")
    path.chmod(0o646)
    assert tuttihub("passwd", path, "clara", stdin="wieck\n").exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_passwd_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "users", tmp_path / "users"
    real.write_text(f"clara:{HASH}:*\n")
    link.symlink_to(real)
    assert tuttihub("passwd", link, "robert", stdin="x\n").exit_code == 0
    assert link.is_symlink()
    assert list(read_users(real).by_name) == ["clara", "robert"]


@pytest.mark.parametrize(
    ("args", "stdin", "code", "problem"),
    [
        (["clara"], "\n", 2, "a password cannot be empty"),
        (["clara"], "x" * 257 + "\n", 2, "only 256 would count"),
        (["a:b"], "x\n", 2, "holds ':'"),
        (["#a"], "x\n", 2, "as comments do"),
        (["a\tb"], "x\n", 2, "holds '\\t'"),
        (["clara", "--times", "Mo25"], "x\n", 2, "'Mo25' has neither '*' nor HHMM-HHMM"),
        (["clara", "--times", "*", "--remove"], "", 2, "contradict"),
        (["nobody", "--remove"], "", 1, "no user 'nobody'"),
        (["--remove"], "", 2, "Missing argument 'USER'"),
    ],
)
def test_passwd_refuses_and_leaves_the_file(
    files: AuthFiles, args: list[str], stdin: str, code: int, problem: str
) -> None:
    before = files.users.read_bytes()
    result = tuttihub("passwd", files.users, *args, stdin=stdin)
    assert (result.exit_code, problem in result.output) == (code, True), result.output
    assert files.users.read_bytes() == before


def test_cert_makes_a_pair_that_a_hub_takes(tmp_path: Path) -> None:
    certificate, key = tmp_path / "hub.crt", tmp_path / "hub.key"
    made = tuttihub("cert", certificate, key, "--name", "höhle.example.org", "--days", "30")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    expires_s = load_identity(certificate, key).expires_s
    assert 29 < (expires_s - datetime.now().timestamp()) / 86400 < 31

    before = key.read_bytes()
    again = tuttihub("cert", certificate, key)
    assert (again.exit_code, "--force replaces it" in again.output) == (1, True)
    assert key.read_bytes() == before
    assert tuttihub("cert", certificate, key, "--force").exit_code == 0
    assert key.read_bytes() != before
    assert tuttihub("cert", certificate, certificate, "--force").exit_code == 2
