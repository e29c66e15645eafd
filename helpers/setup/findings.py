"""What the doctor reports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    fix: str | None = None
    """What repairs it, as one sentence; ``None`` where nothing is wrong."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at; print it."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[Finding]:
        """The findings that need a repair."""
        return [finding for finding in self.findings if finding.fix]

    def __str__(self) -> str:
        width = max(len(finding.what) for finding in self.findings)
        lines = [f"{'! ' if finding.fix else 'ok'} {finding.what:<{width}}  {finding.found}"
                 for finding in self.findings]
        lines += [f"\n{finding.what}: {finding.fix}" for finding in self.problems]
        return "\n".join(lines)
