"""The two things that only prctl(2) can ask for, without the 50 to 80 files that `ctypes` opens."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def _prctl() -> "Callable[[int, int], int]":
    """Return prctl(2), or what always fails where this Python has no foreign functions."""
    try:
        import _ctypes
    except ImportError:
        return lambda _option, _value: -1
    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type] # the program itself
    call = _ctypes.call_function
    return lambda option, value: int(call(address, (option, value, 0, 0, 0)))


prctl = _prctl()


def become() -> bool:
    """Have all orphans below this process reparented to it; whether the kernel agreed."""
    return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0


def die_with_parent(number: int) -> None:
    """Let the kernel send this signal to this process when its parent dies; a refusal is harmless."""
    prctl(PR_SET_PDEATHSIG, number)
