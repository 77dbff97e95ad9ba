"""A real image: a directory with a small Debian in which pilotwrap is installed, entered by Charliecloud."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = ("mmdebstrap", "ch-run")
PACKAGES = "charliecloud mmdebstrap"
# The settings of the host's apt that decide whether the same mirror can be reached from here.
APT_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv4")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
ONLY_HERE = "/etc/in-the-image"
COMMAND = "#!/usr/bin/python3\nimport sys\n\nfrom pilotwrap.cli.main import program\n\nsys.exit(program())\n"


@dataclass(frozen=True)
class Image:
    """An unpacked image: `enter` is the argv in front of a command, `env` an environment in which ch-run starts."""

    directory: Path

    @property
    def enter(self) -> list[str]:
        """Return the argv that enters the image; what follows it is run there."""
        return ["ch-run", str(self.directory), "--"]

    @property
    def env(self) -> dict[str, str]:
        """Return this process's environment with USER, which ch-run asks for, and /tmp the same on both sides."""
        moved = {name: value for name, value in os.environ.items() if name != "TMPDIR"}  # it would become /tmp inside
        return {**moved, "USER": os.environ.get("USER") or "root"}

    def run(self, argv: Sequence[str], *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in the image with an empty stdin and return it with its text, whatever its exit code."""
        return subprocess.run(
            [*self.enter, *argv],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def why_not() -> str | None:
    """Return the sentence that says how to get an image here, or None when one can be made."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)} here: as root, apt-get install --no-install-recommends {PACKAGES}"
    if os.geteuid() != 0:
        return "making the image needs root: run the tests as root"
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode != 0:
        return (
            "ch-run needs user namespaces, refused here: run the tests on a host, or in a container with --privileged"
        )
    return None


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Give an image that holds pilotwrap, made once a session in about half a minute."""
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("image") / "root"
    directory.parent.chmod(0o755)
    try:
        _debian(directory)
        _pilotwrap(directory, directory.parent)
        yield Image(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def printed_starter(image: Image) -> Path:
    """Give the starter's one file as the image itself prints it."""
    printed = image.run(["pilotwrap", "starter"])
    assert printed.returncode == 0, printed.stderr
    path = image.directory.parent / "starter.pyz"
    path.write_text(printed.stdout)
    return path


@pytest.fixture(scope="session")
def image_directory(image: Image) -> Path:
    """Give the directory of an image that holds pilotwrap."""
    return image.directory


def _debian(directory: Path) -> None:
    """Make the root file system from the host's own Debian and mirror."""
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--include=python3"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    argv += ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"']
    argv += [f"--aptopt={setting}" for setting in _apt_settings()]
    _done([*argv, _release(), str(directory), *_sources()])


def _apt_settings() -> list[str]:
    shown = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    return [line.rstrip(";") for line in shown.splitlines() if line.startswith(APT_SETTINGS) and '""' not in line]


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"].strip('"')


def _sources() -> list[str]:
    places = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    return [str(path) for path in places if path.exists() and path.read_text().strip()][:1]


def _pilotwrap(directory: Path, scratch: Path) -> None:
    """Install this checkout and what it needs to run, in the wheels that the image's Python takes."""
    version = _done([*_in(directory), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    source = scratch / "source"  # a build inside the checkout would leave folders there
    source.mkdir()
    shutil.copytree(REPOSITORY / "pilotwrap", source / "pilotwrap", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", source)
    (source / "README.md").touch()  # named in pyproject.toml, needed by nobody in the image
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _done([*pip, "wheel", "--no-deps", "--wheel-dir", str(scratch), str(source)])
    packages = f"usr/local/lib/python{version}/dist-packages"
    only = ["--python-version", version, "--implementation", "cp", "--only-binary", ":all:", "--no-compile"]
    wheel = next(scratch.glob("pilotwrap-*.whl"))
    _done([*pip, "install", *only, "--target", str(directory / packages), str(wheel)])
    _done([*_in(directory), "python3", "-m", "compileall", "-q", f"/{packages}"])
    command = directory / "usr/local/bin/pilotwrap"
    command.write_text(COMMAND)
    command.chmod(0o755)
    (directory / ONLY_HERE.lstrip("/")).touch()


def _in(directory: Path) -> list[str]:
    return ["chroot", str(directory), "/usr/bin/env", "-i", "PATH=/usr/bin:/bin"]


def _done(argv: list[str]) -> str:
    """Return what a command printed; RuntimeError with its last words when it failed."""
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{argv[0]} failed with exit code {ended.returncode}: {ended.stderr[-1500:]}")
    return ended.stdout
