"""How every command of this project ends: errors as one line, Ctrl-C as an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn, TextIO, cast

import typer

from tnn_edge.cli.warning_lines import warnings_told
from tnn_edge.errors import ConfigError, TnnEdgeError
from tnn_edge.printable import printable

__all__ = ["program", "run_app"]


_MAX_FAULT = 4000
_INTERRUPTED = 128 + 2
"""Exit code that a shell gives to a program ended by SIGINT."""


def run_app(app: typer.Typer) -> None:
    """Run a typer app; a `TnnEdgeError` becomes one line on stderr and exit code 1; a `ConfigError` one for each fault.

    So does a stdout that is closed or full. The app sees it as `TnnEdgeError`; a reader that has left is a
    `BrokenPipeError` as ever. What the library logs as a warning is a line on stderr too.
    """
    try:
        if sys.stdout is None or sys.stderr is None:
            # The next file that anybody opens would take the free number, and receive what is printed.
            raise TnnEdgeError("stdout or stderr is closed; send to /dev/null what you do not want")
        with redirect_stdout(cast(TextIO, _Stdout(sys.stdout))), warnings_told(lambda line: typer.echo(line, err=True)):
            app()
    except ConfigError as err:
        _end_with(str(err).split("\n"))
    except TnnEdgeError as err:
        _end_with([str(err)])
    except KeyboardInterrupt:  # typer hears it only once it has read every command
        sys.exit(_INTERRUPTED)


def _end_with(faults: list[str]) -> NoReturn:
    for fault in faults:
        typer.echo(f"error: {printable(_shortened(fault))}", err=True)
    sys.exit(1)


def _shortened(fault: str) -> str:
    """Without the middle, where a hostile file may have put megabytes; the way out stands at the end."""
    left_out = len(fault) - _MAX_FAULT
    if left_out <= 0:
        return fault
    half = _MAX_FAULT // 2
    return f"{fault[:half]} [{left_out} characters left out] {fault[-half:]}"


def program(main: Callable[..., None]) -> None:
    """Run one function as a command line program."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)


class _Stdout:
    """stdout, whose failure is told apart from that of any other file, and lasts.

    Once lost it fails for good: who only probes a stream, as typer does with an empty text, hides the first failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failure: BrokenPipeError | TnnEdgeError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._watched():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except BrokenPipeError as err:
            self._failure = err
            self._let_go()
            raise
        except OSError as err:
            self._failure = TnnEdgeError(f"stdout cannot be written ({err.strerror}); send it elsewhere")
            self._let_go()
            raise self._failure from err

    def _let_go(self) -> None:
        """Point stdout at nothing: what is buffered would fail once more when the interpreter exits."""
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, self._stream.fileno())
        os.close(sink)
