"""What every node is asked, whatever its site: where it is, its user's paths, its proxies."""

from pilotwrap.site.looks import Looks, union

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

HERE = Looks(
    variables=(
        *("HOSTNAME", "HOME", "USER", "LOGNAME", "PATH", "SHELL", "LANG", "TMPDIR", "SCRATCH", "LD_LIBRARY_PATH"),
        *("NERSC_HOST", "LMOD_SYSTEM_NAME", "LMOD_PKG", "MODULESHOME", "CRAY_CPU_TARGET", "OMP_NUM_THREADS"),
        *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
        *("APPTAINER_CONTAINER", "APPTAINER_NAME", "SINGULARITY_CONTAINER", "SINGULARITY_NAME", "SHIFTER_IMAGE"),
        *("CONTAINER", "container", "CH_RUNNING", "CONDA_PREFIX", "VIRTUAL_ENV", "X509_USER_PROXY"),
        *("HARVESTER_ID", "HARVESTER_WORKER_ID", "PANDA_JSID", "BATCH_SYSTEM_JOBID", "GTASK_ID", "PILOTWRAP_*"),
    ),
    files=("/.dockerenv", "/run/.containerenv"),
    programs=("python3", "curl", "unshare", "numactl", "nvidia-smi", "rocm-smi", "xpu-smi", "conda", "cvmfsexec"),
)
"""Where we are, and what is on PATH that a job may need."""

UNSERVED = Looks(
    variables=("OMPI_COMM_WORLD_*", "PALS_*", "JSM_*", "ALPS_*"),
    programs=("jsrun", "aprun", "mpiexec", "mpirun", "mpiexec.openmpi"),
)
"""Launchers that are only recorded yet: a snapshot from there is what their files will start from."""

LOOKS = union((HERE, UNSERVED))
