"""What can be measured of the source: the length, branches and parameters of functions, handlers, files, names."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "pilotwrap"
FORKS = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)


@dataclass(frozen=True)
class Function:
    """One function: where it stands, its lines from first to last, McCabe's number, its parameters but self."""

    where: str
    lines: int
    complexity: int
    parameters: int


@cache
def trees() -> dict[Path, ast.Module]:
    """Return every source file, parsed."""
    return {path.relative_to(REPOSITORY): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


@cache
def functions() -> tuple[Function, ...]:
    """Return every function of the source."""
    return tuple(_function(path, node) for path, tree in trees().items() for node in _definitions(tree))


def broad_handlers() -> list[str]:
    """Return where everything is caught."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type)
    ]


def code_lines(folder: Path) -> int:
    """Return the lines of Python in a folder which are neither blank nor comment."""
    return sum(
        1
        for path in folder.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )


def percentile(values: list[int], share: float) -> int:
    """Return the smallest of `values` that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _function(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    inner = [child for child in ast.walk(node) if child is not node]
    forks = sum(isinstance(child, FORKS) for child in inner)
    operators = sum(len(child.values) - 1 for child in inner if isinstance(child, ast.BoolOp))
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    own = [name for name in names if name not in {"self", "cls"}]
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return Function(f"{path}:{node.lineno} {node.name}", lines, 1 + forks + operators, len(own))


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(each) for each in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"})
