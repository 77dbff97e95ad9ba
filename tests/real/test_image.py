from real.image import Image


def test_pilotwrap_runs_in_the_image_with_the_image_s_python(image: Image) -> None:
    shown = image.run(["pilotwrap", "--version"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.strip()
    where = image.run(["python3", "-c", "import pilotwrap; print(pilotwrap.__file__)"]).stdout
    assert where.startswith("/usr/local/lib/python3")


def test_a_command_that_the_image_lacks_fails(image: Image) -> None:
    assert image.run(["srun", "--version"]).returncode != 0
