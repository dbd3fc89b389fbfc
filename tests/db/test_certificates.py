"""When certificates expire: of files that openssl makes, and of others by hand."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from headrace.db.certificates import expires_at
from headrace.db.credentials import Credentials
from tests.support.tools import require_tool

#: A certificate's outline: version, serial number, algorithm, issuer, validity. openssl no longer
#: makes times in all of these forms.
VERSION, NUMBER, EMPTY = b"\xa0\x03\x02\x01\x02", b"\x02\x01\x07", b"\x30\x00"


def element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    encoded = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(encoded)]) + encoded + content


def outline(not_after: bytes, tag: int, *, version: bytes = VERSION, key: bytes = b"") -> bytes:
    validity = element(0x30, element(0x17, b"200101000000Z") + element(tag, not_after))
    fields = version + NUMBER + EMPTY + EMPTY + validity + element(0x30, key)
    return element(0x30, element(0x30, fields) + element(0x30, b""))


def made(folder: Path, name: str, *, days: int, form: str = "PEM") -> Path:
    """A certificate of openssl's that expires so many days from now."""
    path = folder / name
    subprocess.run(
        [
            require_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-keyout", str(folder / "key.pem"), "-subj", "/CN=headrace", "-days", str(days),
            "-outform", form, "-out", str(path),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return path


def as_openssl_says(path: Path, form: str) -> float:
    said = subprocess.run(
        [require_tool("openssl"), "x509", "-in", str(path), "-inform", form, "-noout", "-enddate"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    text = said.strip().removeprefix("notAfter=")
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("form", ["PEM", "DER"])
@pytest.mark.parametrize("days", [1, 400, 20_000])
def test_it_is_the_time_that_openssl_says(tmp_path, form, days):
    """20,000 days from now the year no longer has a form with two digits."""
    path = made(tmp_path, "one", days=days, form=form)
    assert expires_at(path) == as_openssl_says(path, form)


def test_the_first_of_a_chain_that_expires_counts(tmp_path):
    early, late = made(tmp_path, "early", days=3), made(tmp_path, "late", days=300)
    chain = tmp_path / "chain"
    chain.write_bytes(late.read_bytes() + b"# a comment between\n" + early.read_bytes())
    assert expires_at(chain) == expires_at(early)


@pytest.mark.parametrize(
    ("not_after", "tag", "year"),
    [
        (b"491231235959Z", 0x17, 2049),
        (b"500101000000Z", 0x17, 1950),
        (b"20500101000000Z", 0x18, 2050),
    ],
)
def test_both_forms_of_times(tmp_path, not_after, tag, year):
    path = tmp_path / "one.der"
    path.write_bytes(outline(not_after, tag))
    expires = expires_at(path)
    assert expires is not None
    assert datetime.fromtimestamp(expires, UTC).year == year


def test_a_certificate_of_the_first_version_has_no_version(tmp_path):
    path = tmp_path / "one.der"
    path.write_bytes(outline(b"300101000000Z", 0x17, version=b"", key=b"x" * 70_000))
    assert expires_at(path) == datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def test_the_time_that_means_never_is_never(tmp_path):
    path = tmp_path / "one.der"
    path.write_bytes(outline(b"99991231235959Z", 0x18))
    assert expires_at(path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----",
        b"\x30",
        b"\x30\x84\xff\xff\xff\xff",
        outline(b"300101000000Z", 0x02),
        outline(b"3001", 0x17),
        outline(b"\xff\xff", 0x17),
    ],
)
def test_what_is_no_certificate_is_told(tmp_path, content):
    path = tmp_path / "one"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - several messages
        expires_at(path)


@pytest.mark.parametrize("body", [b"A", b"MA=="])
def test_a_file_with_a_broken_certificate_is_named(tmp_path, body):
    path = tmp_path / "root.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----")
    with pytest.raises(ValueError, match=r"root\.pem holds no certificate that can be read"):
        expires_at(path)


def test_files_that_the_connection_string_names(tmp_path):
    client, root = made(tmp_path, "client", days=5), made(tmp_path, "root", days=50)
    conninfo = make_conninfo("host=db", sslcert=str(client), sslrootcert=str(root))
    assert Credentials(conninfo).certificates() == {
        "client_certificate": expires_at(client),
        "root_certificate": expires_at(root),
    }


def test_files_that_variables_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PGSSLROOTCERT", str(made(tmp_path, "root", days=50)))
    assert list(Credentials("host=db").certificates()) == ["root_certificate"]
    assert Credentials("host=db sslrootcert=system").certificates() == {}


def test_a_file_that_cannot_be_read_is_told_once_and_left_out(tmp_path):
    credentials = Credentials(make_conninfo("host=db", sslcert=str(tmp_path / "gone")))
    with capture_logs() as lines:
        assert credentials.certificates() == {}
        assert credentials.certificates() == {}
    assert [line["event"] for line in lines] == ["certificate_not_read"]
