"""The head of the one-file starter: it finds our modules in the file itself, whose text follows.

A plain Python file, no zip: running a zip opens 130 to 180 files before the first line of ours (runpy and all that
it imports), and opens the zip twice for each module; this file is opened once.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Mapping, Optional, Union

# What the import system itself is made of: there already, while `importlib` would have to be opened.
_spec_from_loader = sys.modules["_frozen_importlib"].spec_from_loader


class Sources:
    """Finds and loads modules from their texts, or their code; `archive` is the file that they all stand in."""

    def __init__(self, texts: "Mapping[str, Union[str, CodeType]]", archive: str) -> None:
        self._texts = texts
        self.archive = archive

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> "Optional[ModuleSpec]":
        """Return how a module of ours is loaded, and nothing for others."""
        if name not in self._texts:
            return None
        package = any(other.startswith(name + ".") for other in self._texts)
        spec: "ModuleSpec" = _spec_from_loader(name, self, origin=self.archive, is_package=package)
        return spec

    def create_module(self, _spec: "ModuleSpec") -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run a module's text."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - as any import does

    def get_code(self, name: str) -> "CodeType":
        """Return a module's code."""
        text = self._texts[name]
        where = self.archive + "/" + name.replace(".", "/") + ".py"
        return compile(text, where, "exec") if isinstance(text, str) else text
