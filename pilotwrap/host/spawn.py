"""The order `spawn`, read and checked."""

from pilotwrap.host import names, wire
from pilotwrap.host.launch import Launch, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

SESSIONS = {"new": "new", "inherit": "inherit", "child": "group"}
STDINS = ("null", "lifeline", "inherit")

# Nothing was said: as much as a person still reads, and Slurm's own KillWait default less a margin.
OUTPUT_CAP = 64 << 20
GRACE_S = 10.0


class Spawn:
    """What is to be started and kept; a wrong value is a `GarbledError`."""

    def __init__(self, order: "Dict[str, object]", environment: "Dict[str, str]") -> None:
        self.id = order.get("id")
        self.launch = Launch(wire.texts(order, "argv"), environment_of(order, environment))
        session = wire.text(order, "session", "new")
        self.stdin = wire.text(order, "stdin", "null")
        if session not in SESSIONS or self.stdin not in STDINS:
            raise wire.GarbledError("session %r, stdin %r" % (session, self.stdin))
        self.pid_namespace = wire.flag(order, "pid_namespace")
        # one that asks for a namespace of its own is no session's leader, whether the kernel grants it or not
        session = "child" if self.pid_namespace else session
        self.keeper_leads = session == "child"
        self.launch.session = SESSIONS[session]
        self.launch.cwd = wire.text(order, "cwd", "")
        self.launch.cpus = wire.text(order, "cpus", "")
        self.launch.user = user_of(order)
        self.stdout = wire.text(order, "stdout", "")
        self.stderr = wire.text(order, "stderr", "")
        self.output_cap = int(wire.number(order, "output_cap", OUTPUT_CAP))
        self.devices = devices_of(order)
        self.environment = environment
        self.wall_s = wire.number(order, "wall_s", 0.0)
        self.grace_s = wire.number(order, "grace_s", GRACE_S)


def environment_of(order: "Dict[str, object]", environment: "Dict[str, str]") -> "Dict[str, str]":
    """Return what a payload gets: what is kept of our environment, less `unset`, with `env`."""
    chosen = names.chosen(environment, wire.texts(order, "keep"))
    for name in names.chosen(chosen, wire.texts(order, "unset")):
        del chosen[name]
    given = wire.mapping(order, "env")
    chosen.update({name: wire.text(given, name) for name in given})
    return chosen


def devices_of(order: "Dict[str, object]") -> "Dict[str, List[str]]":
    """Return which devices were promised, as `promise.broken` takes them; nothing where none were."""
    found = {key: wire.texts(order, key) for key in ("devices", "counted")}
    return found if any(found.values()) else {}


def user_of(order: "Dict[str, object]") -> "Optional[User]":
    """Return whose rights the payload gets, if not ours."""
    user = wire.mapping(order, "user")
    if not user:
        return None
    groups = user.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, int) for group in groups):
        raise wire.GarbledError("groups must be a list of numbers, not %r" % (groups,))
    return User(int(wire.number(user, "uid")), int(wire.number(user, "gid")), groups)
