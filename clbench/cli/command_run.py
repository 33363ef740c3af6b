"""Run strategies on a scenario under a protocol, and show what was learnt and forgotten."""

from __future__ import annotations

from clbench.errors import ConfigError

OPTIONS = {"-h", "--help", "-m", "--multirun", "--plan", "--config"}


def run(words: list[str]) -> int:
    """Compose, check, plan, carry out, summarise; the exit status.

    Raises:
        ClbenchError: something was asked for that cannot be had; nothing has been computed then.
    """
    flags = {word for word in words if word.startswith("-")}
    tokens = [word for word in words if not word.startswith("-")]
    if flags - OPTIONS:
        raise ConfigError(f"unknown option {min(flags - OPTIONS)!r}; there are --plan, --config and --help")
    if flags & {"-h", "--help"}:
        from clbench.cli.manual import manual

        print(manual(tokens))
        return 0
    from clbench.config import jobs

    found = jobs(tokens)
    if "--config" in flags:
        print("---\n".join(job.text for job in found), end="")
        return 0
    from clbench.cli import study

    return study.carry_out(found, plan_only="--plan" in flags)
