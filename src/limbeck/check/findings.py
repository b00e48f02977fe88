"""What a check has to say."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Lines for a person: what is wrong, what is probably not meant, what is good to know."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
