"""What every node is asked, whatever its site: where it is, its user's paths, its proxies."""

from pilotwrap.site.looks import Looks

PASSED_ON = (
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "PYTHONPATH",
    "MANPATH",
    "OMP_*",
    "MODULE*",
    "LMOD_*",
    "LOADEDMODULES",
    "_LMFILES_",
    "CONDA_*",
    "VIRTUAL_ENV",
    "CUDA_HOME",
    "ROCM_PATH",
    "XDG_RUNTIME_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
)
"""Names of the environment that a payload gets besides those that its launcher and scheduler own: what a shell,
a module system and a library path need. An allow-list, so that a secret which nobody thought of stays behind."""

LOOKS = Looks(
    variables=(
        "HOSTNAME",
        "NERSC_HOST",
        "LMOD_SYSTEM_NAME",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "TMPDIR",
        "APPTAINER_CONTAINER",
        "SINGULARITY_CONTAINER",
        "CH_RUNNING",
    ),
    files=("/.dockerenv", "/run/.containerenv"),
)
