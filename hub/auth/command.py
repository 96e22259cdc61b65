"""``tuttihub passwd`` and ``tuttihub cert``: the files that ``serve --auth`` reads."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hub.auth.passwd import (
    Unusable,
    check_name,
    check_password,
    check_times,
    fields_of,
    with_user,
    without_user,
)
from hub.auth.times import ALWAYS
from hub.auth.users import parse_users
from hub.files import PRIVATE, one_at_a_time, write_atomically

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_PATH = click.Path(path_type=Path, dir_okay=False)
_READABLE = 0o644
DAYS_VALID = 3650


class Failed(click.ClickException):
    """Ends the command with one message and exit code 1."""

    def show(self, file: object = None) -> None:
        click.echo(f"tuttihub: {self.format_message()}", err=True)


@click.command(
    context_settings=_HELP,
    epilog="""\b
Examples:
  tuttihub passwd users anna                        add Anna, or give her another password
  tuttihub passwd users anna --times Mo1800-2200,We*    only change when she may join
  pwgen 12 1 | tuttihub passwd users berta          the password from a pipe
  tuttihub passwd users anna --remove
  tuttihub passwd users                             list them

A running hub reads the file anew within a second. Who is playing goes on playing.
""",
)
@click.argument("file", type=_PATH)
@click.argument("user", required=False)
@click.option(
    "--times",
    metavar="TIMES",
    help="When: '*' (always, the default), or days and hours of the hub's local time such as "
    "'Mo0800-2300,Su*'; '' is never. With a user who is there already, it is all that changes.",
)
@click.option("--remove", is_flag=True, help="Take the user out.")
def passwd(file: Path, user: str | None, times: str | None, remove: bool) -> None:
    """Add or change a USER of a credentials FILE, take one out, or list all.

    The password is asked for, or is the first line of standard input if that is no terminal.
    """
    if user is None:
        if remove or times is not None:
            raise click.UsageError("Missing argument 'USER'.")
        _list(file)
        return
    if remove and times is not None:
        raise click.UsageError("--remove and --times contradict each other.")
    try:
        check_name(user)
        if times is not None:
            check_times(times)
        if remove:
            _remove(file, user)
        else:
            _set(file, user, times)
    except Unusable as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None


def _list(file: Path) -> None:
    text = _text(file, missing_ok=False)
    users = parse_users(text)
    width = max(map(len, users.by_name), default=0)
    for name in sorted(users.by_name):
        fields = fields_of(text, name)
        click.echo(f"{name:<{width}}  {(fields[2] if fields else '') or 'never'}")
    for problem in users.problems:
        click.echo(f"line {problem.line}: {problem.text}", err=True)


def _set(file: Path, user: str, times: str | None) -> None:
    only_times = times is not None and fields_of(_text(file), user) is not None
    hash_text = "" if only_times else _ask_hash(user)
    with one_at_a_time(file):
        text = _text(file)  # it may have changed while the password was typed
        known = fields_of(text, user)
        if known is None and only_times:
            raise Failed(f"{file}: somebody has just removed {user!r}")
        if known is not None and only_times:
            hash_text = known[1]
        if times is None:
            times = known[2] if known and len(known) > 2 else ALWAYS
        write_atomically(file, with_user(text, user, hash_text, times).encode(), PRIVATE)
    click.echo(f"{user}: {'changed' if known else 'added'}, may join: {times or 'never'}")


def _remove(file: Path, user: str) -> None:
    with one_at_a_time(file):
        text = _text(file, missing_ok=False)
        if fields_of(text, user) is None:
            raise Failed(f"{file}: no user {user!r}")
        write_atomically(file, without_user(text, user).encode(), PRIVATE)
    click.echo(f"{user}: removed")


def _text(file: Path, *, missing_ok: bool = True) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if missing_ok:
            return ""
        raise Failed(f"{file}: no such file; `tuttihub passwd {file} USER` makes it") from None
    except UnicodeDecodeError:
        raise Failed(f"{file}: is no text in UTF-8") from None
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None


def _ask_hash(user: str) -> str:
    """The hash of a new password."""
    if sys.stdin.isatty():
        password: str = click.prompt(
            f"Password of {user}", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    check_password(password)
    from hub.auth.passwords import new_hash

    return new_hash(password.encode(errors="surrogateescape"))


@click.command(
    context_settings=_HELP,
    epilog="""\b
Examples:
  tuttihub cert hub.crt hub.key
  tuttihub cert hub.crt hub.key --name hub.example.org --days 365

JackTrip's clients verify no certificate: it keeps the passwords from being read on their way,
but proves nobody that the hub is yours. A running hub takes new files over within a second.
""",
)
@click.argument("certfile", type=_PATH)
@click.argument("keyfile", type=_PATH)
@click.option("--name", default="tuttihub", show_default=True, help="Host name of the hub.")
@click.option(
    "--days", type=click.IntRange(1, 36500), default=DAYS_VALID, show_default=True, metavar="N",
    help="How long it is valid.",
)  # fmt: skip
@click.option(
    "--bits", type=click.Choice(["2048", "3072", "4096"]), default="2048", show_default=True,
    help="Size of the RSA key; larger ones make logins slower.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that are there.")
def cert(certfile: Path, keyfile: Path, name: str, days: int, bits: str, force: bool) -> None:
    """Make a certificate (CERTFILE) and its private key (KEYFILE), signed by itself."""
    if certfile.resolve() == keyfile.resolve():
        raise click.UsageError("CERTFILE and KEYFILE must be two files.")
    for path in (certfile, keyfile):
        if path.exists() and not force:
            raise Failed(f"{path}: is there already; --force replaces it")
    from hub.auth.certificate import self_signed

    try:
        certificate, key = self_signed(name, days, int(bits))
    except (ValueError, UnicodeError) as error:
        problem = f"{name!r} is no host name that a certificate can hold: {error}"
        raise click.BadParameter(problem, param_hint="--name") from None
    try:
        with one_at_a_time(keyfile):
            write_atomically(keyfile, key, PRIVATE)
            write_atomically(certfile, certificate, _READABLE)
    except OSError as error:
        raise Failed(f"{error.filename or keyfile}: {error.strerror}") from None
    click.echo(f"made {certfile} and {keyfile}, RSA {bits}, valid for {days} days")
