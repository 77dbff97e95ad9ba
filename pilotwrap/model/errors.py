"""Every way to fail: what happened, why, what to do next; each class fixes its reason.

PilotwrapError
├── BadInputError         bad-input       2   a spec, a file, a value that was given
├── UsageError            usage           2   the command line
├── NodeUnusableError     node-unusable   3   this node cannot run the job
├── AllocationError       allocation      3   account, nodes or hours
├── LauncherError         launcher        3   srun, mpiexec, … or what they need
├── BindingError          binding         3   CPUs or devices are not those promised
├── ImageError            image           3   the image or the way into it
├── SiteEnvironmentError  environment     3   conda, modules, CVMFS, a full disk
├── CredentialError       credential      3   missing, expired, refused, wrong role
├── PilotError            pilot           3   PanDA's own pilot: not there, hung, gone without a word
├── PandaQueueError       panda-queue     3   the queue is unknown to the server, or not online
├── ServerError           server          4   unreachable, or its answer makes no sense
├── StageInError          stage-in        1   an input is missing or is another file
├── StageOutError         stage-out       1   an output is missing or cannot travel
└── InternalError         internal       70   a fault of pilotwrap
"""

from typing import ClassVar

from pilotwrap.model.line import line_of
from pilotwrap.model.reasons import EXIT_CODES, Reason


class PilotwrapError(Exception):
    """What happened (`what`), why it did (`why`), and what the reader should do next (`remedy`)."""

    reason: ClassVar[Reason] = "internal"

    def __init__(self, what: str, *, why: str = "", remedy: str = "") -> None:
        self.what = what
        self.why = why
        self.remedy = remedy
        super().__init__(what)

    @property
    def exit_code(self) -> int:
        """Return what a program that ends with this error exits with."""
        return EXIT_CODES[self.reason]

    def __str__(self) -> str:
        return line_of(self.what + (f": {self.why}" if self.why else "") + (f"; {self.remedy}" if self.remedy else ""))


class BadInputError(PilotwrapError):
    """Something given to us is not what it must be."""

    reason = "bad-input"


class UsageError(PilotwrapError):
    """The command line cannot be understood."""

    reason = "usage"


class NodeUnusableError(PilotwrapError):
    """This node cannot run the job."""

    reason = "node-unusable"


class AllocationError(PilotwrapError):
    """The batch system does not give what the job needs."""

    reason = "allocation"


class LauncherError(PilotwrapError):
    """The launcher is missing or failed by itself."""

    reason = "launcher"


class BindingError(PilotwrapError):
    """CPUs or devices are not those that were promised."""

    reason = "binding"


class ImageError(PilotwrapError):
    """The image or the way into it does not work."""

    reason = "image"


class SiteEnvironmentError(PilotwrapError):
    """What the job needs around it (modules, conda, CVMFS, disk) is not there."""

    reason = "environment"


class CredentialError(PilotwrapError):
    """The credential is missing, expired or not allowed to do this."""

    reason = "credential"


class PilotError(PilotwrapError):
    """PanDA's own pilot is not there, cannot be used, or failed by itself."""

    reason = "pilot"


class PandaQueueError(PilotwrapError):
    """The queue is unknown to the server, or it takes no jobs."""

    reason = "panda-queue"


class ServerError(PilotwrapError):
    """The server cannot be reached or answers nonsense."""

    reason = "server"


class StageInError(PilotwrapError):
    """An input is missing or is not the file that the job names."""

    reason = "stage-in"


class StageOutError(PilotwrapError):
    """An output is missing or cannot be brought to its place."""

    reason = "stage-out"


class InternalError(PilotwrapError):
    """A fault of pilotwrap itself."""

    reason = "internal"
