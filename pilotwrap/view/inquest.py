"""What `why` says to a person."""

from pilotwrap.model.inquest import Inquest


def told(found: Inquest) -> str:
    """Return one sentence, what to do, then the evidence."""
    lines = [found.sentence, f"what to do: {found.remedy}", "", "evidence:"]
    for job in found.jobs:
        name = f"job {job.panda_id}.{job.attempt_nr}" if job.panda_id else "the job"
        lines.append(f"  {name} on {job.node or '?'}: {job.state}, {job.reason}: {job.detail}")
    for name, words in found.last_words.items():
        lines.append(f"  last words of {name}:")
        lines += [f"    {word}" for word in words]
    for name, events in found.events.items():
        lines.append(f"  job {name} was last seen at: {' → '.join(events)}")
    if found.unreported:
        lines.append(f"  not told yet: {', '.join(found.unreported)}")
    lines.append(f"  {found.run_dir}")
    return "\n".join(lines) + "\n"
