"""X.509 proxies as their users have them, made by openssl: a certificate with the dates asked for, and its key."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """\
[ca]
default_ca = here
[here]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = any
prompt = no
"""


def made_proxy(folder: Path, begins: float, ends: float) -> Path:
    """Write a self-signed certificate and its key, valid between two times in seconds since the epoch."""
    folder.mkdir()
    (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    config = ["-config", str(folder / "openssl.cnf")]
    key, request, certificate = folder / "key.pem", folder / "request.pem", folder / "certificate.pem"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    openssl("req", "-new", *new_key, "-subj", "/CN=somebody", "-out", str(request), *config)
    dates = ["-startdate", stamp(begins), "-enddate", stamp(ends)]
    signing = ["-batch", "-selfsign", "-notext", "-keyfile", str(key), "-in", str(request), "-out", str(certificate)]
    openssl("ca", *config, *signing, *dates)
    path = folder / "proxy.pem"
    path.touch(mode=0o600)
    path.write_bytes(certificate.read_bytes() + key.read_bytes())
    return path


def stamp(at: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at))


def openssl(*words: str) -> str:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
