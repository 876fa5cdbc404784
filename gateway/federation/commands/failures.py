"""What a command says of a request that failed."""

from __future__ import annotations

from compliance.terminal import shown

ERRORS_SHOWN_MAX = 50
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


def explained(error: Exception) -> str:
    """Return why a request failed, fit for a terminal: in a line, and each error of the answer in one below it."""
    from gateway.federation.http.client import RemoteProblem

    answers = [problem.problem for problem in (error, error.__cause__) if isinstance(problem, RemoteProblem)]
    errors = answers[0].errors if answers else ()
    lines = [shown(error), *(f"  {shown(fault)}" for fault in errors[:ERRORS_SHOWN_MAX])]
    if len(errors) > ERRORS_SHOWN_MAX:
        lines.append(f"  … and {len(errors) - ERRORS_SHOWN_MAX:,} more")
    return "\n".join(lines)


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed later: nothing is to be set right before."""
    from gateway.federation.http.client import RemoteProblem

    problems = [problem for problem in (error, error.__cause__) if isinstance(problem, RemoteProblem)]
    return all(problem.status >= SERVER_ERROR or problem.status == TOO_MANY_REQUESTS for problem in problems)
