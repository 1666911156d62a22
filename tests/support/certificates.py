"""Certificates for tests, made by the ``openssl`` command: a new one for every test."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["make_certificate"]


def make_certificate(
    folder: Path,
    *,
    name: str = "test",
    subject: str = "cam.example",
    days: tuple[int, int] = (-1, 9),
) -> tuple[Path, Path]:
    """Return the files of a self-signed certificate and its key; skip the test without openssl.

    Args:
        folder: where they are written.
        name: of the files.
        subject: DNS name that it is for, beside localhost and 127.0.0.1.
        days: from when and until when it is valid, days from now.
    """
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    request = folder / f"{name}.csr"
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={subject}", "-keyout", key, "-out", request)  # fmt: skip
    (folder / "ca.txt").write_text("")
    (folder / "serial").write_text("01\n")
    (folder / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={folder}/ca.txt\nserial={folder}/serial\n"
        f"new_certs_dir={folder}\ndefault_md=sha256\npolicy=any\nx509_extensions=names\n"
        "unique_subject=no\n[any]\ncommonName=supplied\n[names]\n"
        f"subjectAltName=DNS:{subject},DNS:localhost,IP:127.0.0.1\n"
    )
    run("ca", "-batch", "-selfsign", "-config", folder / "openssl.cnf", "-keyfile", key,
        "-in", request, "-out", cert, "-notext",
        "-startdate", date(days[0]), "-enddate", date(days[1]))  # fmt: skip
    key.chmod(0o600)
    return cert, key


def run(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def date(days: int) -> str:
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return when.strftime("%y%m%d%H%M%SZ")
