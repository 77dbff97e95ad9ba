import subprocess
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from pilotwrap.run.shellline import argv_of

WORDS = st.lists(st.text("ab1_./-:,@%+=^'\"\\$`*?[]{}()<>|&;!#~ \t\n", max_size=8), min_size=0, max_size=4).map(
    " ".join
)


def printed(argv: tuple[str, ...], folder: Path) -> bytes:
    return subprocess.run(argv, cwd=folder, capture_output=True, check=False, timeout=10).stdout


def test_plain_words_need_no_shell() -> None:
    assert argv_of("./run true 'a b' --x=1") == ("./run", "true", "a b", "--x=1")


def test_what_a_shell_obeys_goes_through_one() -> None:
    for line in ("./run $HOME", "./run a; b", "./run *", "./run a > b", "./run ~", "./run 'a' &", "A=1 ./run", "true"):
        assert argv_of(line) == ("/bin/sh", "-c", line)


@given(WORDS)
@example("'it''s' a''")
@example("=a ")
def test_a_line_without_a_shell_says_what_the_shell_would_say(tmp_path_factory, words: str) -> None:  # noqa: ANN001
    folder = tmp_path_factory.getbasetemp()
    program = folder / "show"
    if not program.exists():
        program.write_text('#!/bin/sh\nfor word in "$@"; do printf "<%s>" "$word"; done\n')
        program.chmod(0o755)
    argv = argv_of(f"./show {words}")
    if argv[0] != "/bin/sh":
        assert printed(argv, folder) == printed(("/bin/sh", "-c", f"./show {words}"), folder)
