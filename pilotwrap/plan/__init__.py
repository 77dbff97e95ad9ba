"""Pure; facts and a JobSpec to a Plan."""
