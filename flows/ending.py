"""How a command ends: every error becomes one sentence and an exit code.

0 complete · 2 nothing could start · 3 finished with holes or refused scenes, each named · 1 anything else ·
130 and 143 stopped by Ctrl-C or SIGTERM.
"""
# ruff: noqa: PLC0415  # every import inside a function is one that `--help` does not pay for

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

import typer

COMPLETE, UNEXPECTED, NOT_STARTED, HOLES, STOPPED, TERMINATED = 0, 1, 2, 3, 130, 143


def exit_code(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command; turn whatever happens into one sentence on stderr and an exit code."""
    signals: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # ending takes a few seconds, which a second Ctrl-C must not disturb
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    try:
        code = _run(app, arguments)
    except Exception as error:  # noqa: BLE001  # the one place where everything that is left over is told
        if not came_of_a_stop(error):
            return _fail(*_told(error), as_json="--json" in arguments)
        code = STOPPED
    if code not in (STOPPED, TERMINATED):
        return int(code or 0)
    code = TERMINATED if signal.SIGTERM in signals else code
    # Where Ctrl-C came inside an `exec`, as those that make dataclasses, Python run by `-m` ends by SIGINT whatever its
    # exit code is; the next `exec` that ends well lets it forget.
    exec("")  # noqa: S102
    sentence = "Stopped. What was finished is kept; the same command goes on from there."
    return _fail(code, sentence, as_json="--json" in arguments)


def came_of_a_stop(error: BaseException | None) -> bool:
    """Whether an error is what somebody made of a KeyboardInterrupt, as imports of native code do."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _run(app: typer.Typer, arguments: Sequence[str]) -> int | None:
    """Run the command. Typer turns a KeyboardInterrupt into 130, but for one that comes before it has begun."""
    try:
        code: int | None = app(arguments, prog_name="maskmill", standalone_mode=False)
    except KeyboardInterrupt:
        return STOPPED
    return code


def _told(error: Exception) -> tuple[int, str]:
    """(exit code, sentence) of an error."""
    from pipeline.errors import InputError, MaskmillError

    if isinstance(error, MaskmillError):
        return (NOT_STARTED if isinstance(error, InputError) else UNEXPECTED), error.message
    if isinstance(error, typer.TyperException):
        said = error.format_message().rstrip(".")
        # ^ Empty where no command was given: then Typer has printed the help.
        return error.exit_code, f"{said or 'No command was given'}. `maskmill --help` says what there is."
    if isinstance(error, typer.Abort):
        return UNEXPECTED, "Stopped: the input ended."
    return UNEXPECTED, _unexpected(error)


def _unexpected(error: Exception) -> str:
    """One sentence about an error that nobody foresaw; its traceback goes to stderr or to a file."""
    import tempfile
    import traceback

    from flows.masking import masked

    trace = masked("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if os.environ.get("MASKMILL_DEBUG"):
        typer.echo(trace, err=True)
        return f"Unexpected: {what}"
    with tempfile.NamedTemporaryFile("w", prefix="maskmill-", suffix=".txt", delete=False) as file:
        file.write(trace)
    return f"Unexpected: {what} (the traceback is in {file.name}; MASKMILL_DEBUG=1 shows it)"


def _fail(code: int, sentence: str, as_json: bool) -> int:
    from flows import screen
    from flows.masking import masked

    screen.complain(sentence)
    if as_json:
        screen.emit({"error": masked(sentence), "exit_code": code})
    return code
