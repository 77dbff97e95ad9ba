"""pilotwrap turns any node or allocation of an HPC machine into a PanDA worker."""

__version__ = "0.1.0"
