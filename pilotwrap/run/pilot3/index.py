"""PanDA's own pilot from the package index: its source archive, fetched by pip as the site has set pip up."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pilotwrap.model.errors import PilotError

PYPI_VERSION = "3.7.0.36"
"""The newest there. Only the source archive holds pilot.py, the wheel does not."""

PYPI_SHA256 = "8b5b754fa9fbea835b14215c2957a59a393988113c5209f5c826e6c67b46f03e"

FETCH_S = 120.0
"""For less than half a megabyte; a guess with room for a slow proxy."""

_BACKEND = '''\
"""Answers pip's question for a source archive's name and version; runs none of its code and needs nothing installed."""
import os, sys

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as info:
        head = [line for line in info if line.startswith(("Metadata-Version:", "Name:", "Version:"))]
    version = next(line.split(":", 1)[1].strip() for line in head if line.startswith("Version:"))
    name = "panda_pilot-%s.dist-info" % version
    os.mkdir(os.path.join(metadata_directory, name))
    with open(os.path.join(metadata_directory, name, "METADATA"), "w", encoding="utf-8") as metadata:
        metadata.writelines(head)
    return name

__legacy__ = sys.modules[__name__]
'''
"""pip does not give a source archive away without asking its build system for metadata, and that would run its setup.py
with a setuptools which has to be fetched first. The archive has no pyproject.toml, so pip asks setuptools.build_meta's
`__legacy__`: this one. Works with pip 23.0 to 26.3."""


def sdist(environment: Mapping[str, str]) -> bytes:
    """Return the archive, its checksum checked by pip; PilotError when pip cannot fetch it."""
    with tempfile.TemporaryDirectory(prefix="pilotwrap-pip-") as scratch:
        folder = Path(scratch)
        argv = _argv(folder)
        backend = folder / "backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_BACKEND, "utf-8")
        path = ":".join(filter(None, (str(backend.parent), environment.get("PYTHONPATH", ""))))
        _run(argv, {**environment, "PYTHONPATH": path})
        for archive in (folder / "fetched").glob("*.tar.gz"):
            return archive.read_bytes()
    raise _not_fetched("pip fetched no source archive")


def _argv(folder: Path) -> list[str]:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"panda-pilot=={PYPI_VERSION} --hash=sha256:{PYPI_SHA256}\n", "utf-8")
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary=panda-pilot",
        "--use-pep517",
        "--no-build-isolation",
        "--require-hashes",
        f"--requirement={requirement}",
        f"--dest={folder / 'fetched'}",
    ]


def _run(argv: list[str], environment: Mapping[str, str]) -> None:
    try:
        ended = subprocess.run(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _not_fetched(f"pip was not done after {FETCH_S:.0f} s") from error
    except OSError as error:
        raise _not_fetched(f"{argv[0]} cannot be started: {error.strerror}") from error
    if ended.returncode != 0:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        told = [line for line in said if line.startswith("ERROR")] or said
        raise _not_fetched(told[-1][:300] if told else f"pip ended with {ended.returncode}")


def _not_fetched(why: str) -> PilotError:
    return PilotError(
        f"panda-pilot {PYPI_VERSION} cannot be fetched from the package index",
        why=why,
        remedy="check pip's settings and proxy, or name a tarball with its sha256",
    )
