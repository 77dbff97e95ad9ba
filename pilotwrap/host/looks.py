"""What to look at on a node. Generated from the files of `site/`, which say why."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

LOOKS: "Dict[str, object]" = {
    "variables": [
        *("HOSTNAME", "HOME", "USER", "LOGNAME", "PATH", "SHELL", "LANG", "TMPDIR", "SCRATCH", "LD_LIBRARY_PATH"),
        *("SLURM_*", "SLURMD_NODENAME", "PBS_*", "NCPUS", "LSB_*", "LSF_*", "COBALT_*", "FLUX_*"),
        *("PMI_*", "PMIX_*", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_*", "PALS_*", "JSM_*", "ALPS_*"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY"),
        *("OMP_NUM_THREADS", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
        *("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", "APPTAINER_NAME", "SINGULARITY_NAME", "SHIFTER_IMAGE"),
        *("CONTAINER", "container", "NERSC_HOST", "LMOD_SYSTEM_NAME", "LMOD_PKG", "MODULESHOME", "CRAY_CPU_TARGET"),
        *("HARVESTER_ID", "HARVESTER_WORKER_ID", "GTASK_ID", "CONDA_PREFIX", "VIRTUAL_ENV", "X509_USER_PROXY"),
        *("PANDA_JSID", "BATCH_SYSTEM_JOBID", "PILOTWRAP_*"),
    ],
    "files": ["{PBS_NODEFILE}", "{LSB_DJOB_HOSTFILE}", "{COBALT_NODEFILE}", "/run/.containerenv", "/.dockerenv"],
    "commands": [
        {"when": "SLURM_JOB_ID", "argv": ["squeue", "-h", "-j", "{SLURM_JOB_ID}", "-o", "%L"]},
        {"when": "PBS_JOBID", "argv": ["qstat", "-x", "-f", "-F", "json", "{PBS_JOBID}"]},
        {"when": "LSB_JOBID", "argv": ["bjobs", "-noheader", "-o", "time_left", "{LSB_JOBID}"]},
        {"when": "FLUX_URI", "argv": ["flux", "job", "timeleft"]},
        {"when": "FLUX_URI", "argv": ["flux", "resource", "list", "-no", "{nodelist}"]},
    ],
    "programs": [
        *("srun", "scancel", "scontrol", "squeue", "qstat", "bjobs", "jsrun", "aprun", "flux", "mpiexec", "mpirun"),
        *("mpiexec.hydra", "mpiexec.mpich", "mpiexec.openmpi", "apptainer", "singularity", "shifter", "podman-hpc"),
        *("podman", "docker", "ch-run", "python3", "nvidia-smi", "rocm-smi", "xpu-smi", "numactl", "unshare"),
        *("cvmfsexec", "conda", "module", "curl"),
    ],
}
