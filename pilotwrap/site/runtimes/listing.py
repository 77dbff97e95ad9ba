"""The container runtimes that are looked for, by the program that proves each."""

from pilotwrap.site.looks import Looks

RUNTIMES = {
    "apptainer": "apptainer",
    "singularity": "singularity",
    "shifter": "shifter",
    "podman-hpc": "podman-hpc",
    "podman": "podman",
    "docker": "docker",
    "charliecloud": "ch-run",
}
LOOKS = Looks(programs=tuple(RUNTIMES.values()))
