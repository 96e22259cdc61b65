"""The credentials file: what it means, what is wrong with it, and how it is changed."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.auth.passwd import fields_of, with_user, without_user
from hub.auth.passwords import DIGEST_CHARS, new_hash, password_digest, split_hash
from hub.auth.times import parse_times
from hub.auth.users import UsersRefused, parse_users, read_users

DIGEST = "a" * DIGEST_CHARS
HASH = f"$6$salt${DIGEST}"
MONDAY, SUNDAY = datetime(2026, 11, 23), datetime(2026, 11, 22)


def openssl_hash(password: str, salt: str) -> str:
    command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    done = subprocess.run(command, input=password, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("password", "salt"),
    [("wieck", "abcdefgh12345678"), ("sécret ♪", "./"), ("x", "s"), ("y" * 200, "longer")],
)
def test_hashes_are_openssls(password: str, salt: str) -> None:
    assert split_hash(openssl_hash(password, salt)) == (
        salt,
        password_digest(password.encode(), salt),
    )


def test_of_a_password_256_bytes_count() -> None:
    assert password_digest(b"p" * 256, "s") == password_digest(b"p" * 300, "s")
    assert password_digest(b"p" * 255, "s") != password_digest(b"p" * 256, "s")


def test_a_password_ends_at_a_zero_byte() -> None:
    assert password_digest(b"right\0and more", "s") == password_digest(b"right", "s")


def test_a_new_hash_fits_its_password_and_no_other_hash() -> None:
    one, other = new_hash(b"wieck"), new_hash(b"wieck")
    assert one != other
    salt, digest = split_hash(one)
    assert (len(salt), password_digest(b"wieck", salt)) == (16, digest)


def test_a_salt_is_cut_to_16() -> None:
    assert split_hash(f"$6${'s' * 20}${DIGEST}") == ("s" * 16, DIGEST)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("anna", "fewer than three fields"),
        (f"anna:{HASH}", "fewer than three fields"),
        (f":{HASH}:*", "no user name"),
        ("anna:$1$salt$abc:*", "is no SHA-512-crypt"),
        ("anna:secret:*", "is no SHA-512-crypt"),
        (f"anna:$6$rounds=9000$salt${DIGEST}:*", "has a number of rounds"),
        (f"anna:$6$${DIGEST}:*", "has no salt"),
        (f"anna:$6$sa!t${DIGEST}:*", "has a salt with other characters"),
        ("anna:$6$salt$tooshort:*", "has no 86 characters"),
        (f"anna:{HASH}x:*", "has no 86 characters"),
    ],
)
def test_a_wrong_line_is_told_with_its_number_and_skipped(line: str, problem: str) -> None:
    users = parse_users(f"# choir\n\n{line}\nberta:{HASH}:*\n")
    assert list(users.by_name) == ["berta"]
    (found,) = users.problems
    assert (found.line, problem in found.text) == (3, True), found


def test_further_fields_and_line_ends_do_not_matter() -> None:
    users = parse_users(f"anna:{HASH}:*:alto:since 2020\r\nBerta:{HASH}:")
    assert list(users.by_name) == ["anna", "Berta"]
    assert not users.problems
    assert users.by_name["anna"].times.include(MONDAY)
    assert not users.by_name["Berta"].times.include(MONDAY)


def test_the_last_good_line_of_a_user_holds() -> None:
    users = parse_users(f"anna:{HASH}:\nanna:{HASH}:*\nanna:$1$no:*\n")
    assert users.by_name["anna"].times.include(MONDAY)
    assert [problem.line for problem in users.problems] == [2, 3]


@pytest.mark.parametrize(
    ("times", "moment", "allowed"),
    [
        ("*", MONDAY, True),
        ("", MONDAY, False),
        ("Mo*", MONDAY, True),
        ("Mo*", SUNDAY, False),
        ("Mo0800-2300,Su*", SUNDAY.replace(hour=3), True),
        ("Mo0800-2300,Su*", MONDAY.replace(hour=7, minute=59, second=59), False),
        ("Mo0800-2300,Su*", MONDAY.replace(hour=8), True),
        ("Mo0800-2300,Su*", MONDAY.replace(hour=23), True),
        ("Mo0800-2300,Su*", MONDAY.replace(hour=23, second=1), False),
        ("Tu*,*", MONDAY, True),
        ("Mo2300-0100", MONDAY.replace(hour=23, minute=30), False),
        ("mo*", MONDAY, False),
        (" *", MONDAY, False),
        ("Mo,Mo8-9,Mo2500-2600,Mo0800-0900", MONDAY.replace(hour=8, minute=30), True),
    ],
)
def test_when_a_user_may_join(times: str, moment: datetime, allowed: bool) -> None:
    assert parse_times(times)[0].include(moment) is allowed


def test_what_is_wrong_with_times_is_told() -> None:
    problems = parse_users(f"anna:{HASH}:Mo0800,Xy*,Su*,Mo2300-0100\n").problems
    assert [problem.line for problem in problems] == [1, 1, 1]
    texts = " ".join(problem.text for problem in problems)
    assert "'Mo0800' has neither '*' nor HHMM-HHMM" in texts
    assert "'Xy*' is not '*', and begins with no day (Mo Tu We Th Fr Sa Su)" in texts
    assert "'Mo2300-0100' ends before it begins" in texts


FILE_TEXT = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}:{}:{}".format,
            st.sampled_from(["anna", "", "#", "b\r", "ö"]),
            st.sampled_from([HASH, "$6$", "$6$s$", "", "$1$"]),
            st.sampled_from(["*", "Mo*", "Mo0000-2359", ",,", "Su", "\0"]),
        ),
    ),
    max_size=8,
).map("\n".join)


@given(FILE_TEXT)
@example("\n")
def test_no_text_breaks_the_parser(text: str) -> None:
    users = parse_users(text)
    for user in users.by_name.values():
        user.times.include(MONDAY)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in users.problems)


@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbfanna:x:*")
def test_no_bytes_break_the_reader(data: bytes) -> None:
    path = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    path /= f"tuttihub-test-users-{id(data)}"
    path.write_bytes(data)
    try:
        read_users(path)
    except UsersRefused:
        pass
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b"\x93NUMPY", "is no text in UTF-8"),
        (b"anna:secret:*\n", "has no line that is user:hash:times; line 1: the hash of 'anna'"),
    ],
)
def test_a_file_without_any_sense_is_refused(
    tmp_path: Path, data: bytes | None, problem: str
) -> None:
    path = tmp_path / "users"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsersRefused, match=problem):
        read_users(path)


# ---- changes

OLD = f"# altos\nanna:{HASH}:Mo*:note\n\nberta:{HASH}:*\nanna:{HASH}:Su*\n"


def test_a_change_replaces_the_line_that_holds() -> None:
    assert with_user(OLD, "anna", "new", "*") == f"# altos\n\nberta:{HASH}:*\nanna:new:*\n"


def test_a_newcomer_is_added_at_the_end() -> None:
    assert with_user(OLD, "clara", "new", "") == OLD + "clara:new:\n"
    assert with_user("no end of line", "clara", "new", "") == "no end of line\nclara:new:\n"
    assert with_user("", "clara", "new", "*") == "clara:new:*\n"


def test_fields_of_ones_own_stay() -> None:
    assert with_user(f"anna:{HASH}:Mo*:alto:2", "anna", "new", "*") == "anna:new:*:alto:2\n"


def test_who_is_removed_is_gone_everywhere() -> None:
    assert without_user(OLD, "anna") == f"# altos\n\nberta:{HASH}:*\n"
    assert without_user(OLD, "nobody") == OLD


@given(FILE_TEXT, st.sampled_from(["anna", "clara", "ö"]))
def test_a_change_is_read_back_and_hurts_no_other(text: str, name: str) -> None:
    before = parse_users(text).by_name
    changed = with_user(text, name, HASH, "Tu*")
    after = parse_users(changed).by_name
    assert fields_of(changed, name) is not None
    assert after[name].salt == "salt"
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }
    assert name not in parse_users(without_user(changed, name)).by_name
