"""The queues that a lab knows, and the folder that stands for its storage."""

from pathlib import Path

from pilotwrap.lab.put import DEFAULT_QUEUE
from pilotwrap.lab.queuedata import QUEUE_STATUSES, Queue
from pilotwrap.lab.store import Store

_STATUS = "status of queue "
_FILES = "files"


def known_queue(store: Store, name: str) -> Queue | None:
    """Return the lab's own queue, one that it was told about, or one that a job is for; None for any other."""
    told = store.setting(_STATUS + name)
    is_own = name == store.setting("panda_queue", DEFAULT_QUEUE)
    if not (told or is_own or store.row("SELECT 1 FROM jobs WHERE site = ?", name)):
        return None
    return Queue(name, next((each for each in QUEUE_STATUSES if each == told), "online"))


def tell_status(store: Store, queue: Queue) -> None:
    """Remember a queue and its status."""
    store.remember(_STATUS + queue.name, queue.status)


def storage_folder(store: Store) -> Path | None:
    """Return the folder that pilots of every queue stage from and to; None when the lab has none."""
    told = store.setting(_FILES)
    return Path(told) if told else None


def tell_storage(store: Store, folder: Path) -> None:
    """Remember the folder; it may be told before or while the server runs."""
    store.remember(_FILES, str(folder.absolute()))


def is_in_test(store: Store, name: str) -> bool:
    """Tell whether a queue takes test jobs only."""
    return store.setting(_STATUS + name) == "test"
