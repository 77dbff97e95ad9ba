"""Which of the two APIs a lab serves."""

from typing import Literal, TypeAlias, get_args

Api: TypeAlias = Literal["current", "legacy", "both"]
APIS: tuple[Api, ...] = get_args(Api)
