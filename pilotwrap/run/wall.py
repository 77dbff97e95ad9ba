"""The wall between host and image: what both sides must find under the same path, looked at before any job is taken."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pilotwrap.model.errors import BadInputError, CredentialError, ImageError, PilotwrapError
from pilotwrap.run.link import LOST, Message, StarterLink
from pilotwrap.run.rundir import RunDirectory
from pilotwrap.run.staging import path_of
from pilotwrap.run.storage import StorageMap

NAMED_FILES: Mapping[str, type[PilotwrapError]] = {
    "spec": BadInputError,
    "storage": BadInputError,
    "credential": CredentialError,
    "ca": CredentialError,
}
"""The options of `run` that name a file, which the controller reads, and whose fault it is when it is not there."""

WALL = "wall"
"""What the host's look at the run's directory is called on the wire."""

LOOK_S = 60.0
"""A guess: a process that does nothing, on a host whose shared file system may hang for a while."""


def bind(folder: Path) -> str:
    """Return what to do about a folder that one side does not have."""
    return f"bind {folder} into the image under the same path, in the words of --enter"


def check_files(option: str, paths: Iterable[Path]) -> None:
    """Raise BadInputError or CredentialError for a file that is named on the host and not there in the image."""
    for path in paths:
        if not _is_there(path):
            raise NAMED_FILES.get(option, BadInputError)(
                f"--{option} {path}",
                why="there is no such file inside the image",
                remedy=f"correct it, or if the host has it, {bind(path.parent)}",
            )


def check_storage(storage: StorageMap) -> None:
    """Raise BadInputError for a `file:` endpoint whose folder is not there in the image, where files are staged."""
    for endpoint, prefix in storage.prefixes.items():
        if prefix.startswith("file:") and not _is_there(path_of(prefix)):
            folder = path_of(prefix)
            raise BadInputError(
                f"the storage endpoint {endpoint!r} is {folder}",
                why="there is no such folder inside the image",
                remedy=f"make it, or if the host has it, {bind(folder)}",
            )


def check_run_directory(link: StarterLink, run: RunDirectory) -> None:
    """Have the host enter the run's directory; ImageError when it cannot: it was made in the image and nowhere else.

    For `link.read` only, before `listen`; what the starter says meanwhile is read again afterwards.
    """
    link.send({"do": "spawn", "id": WALL, "argv": ["true"], "env": {}, "cwd": str(run.path), "wall_s": LOOK_S})
    others: list[Message] = []
    while (said := link.read()) is not LOST:
        if said.get("id") != WALL:
            others.append(said)
        elif said.get("event") == "exited" or _entered(said):
            break
        elif said.get("event") == "failed":
            raise ImageError(
                f"the run directory {run.path} is in the image only",
                why=f"the host cannot {said.get('what')}: {said.get('text')}",
                remedy=bind(run.path.parents[1]),
            )
    for message in others:
        link.put_back(message)


def _entered(said: Message) -> bool:
    """Tell whether it failed after the folder was entered: a host may lack `true`."""
    return said.get("event") == "failed" and str(said.get("what")).startswith("start ")


def _is_there(path: Path) -> bool:
    """Tell whether there is anything; whoever reads it says better what else is wrong."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True
