"""Programs in Java that the public caption metrics consist of, run from temporary folders."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pad_pipeline.errors import UserError

_UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def find_java() -> str:
    """The `java` on the path; `UserError` where there is none."""
    found = shutil.which("java")
    if found is None:
        raise UserError(
            "METEOR and the tokens of all caption metrics need a Java runtime, and there is no "
            "`java` on the path; install one (`apt-get install default-jre-headless`)"
        )
    return found


def metrics_folder() -> Path:
    """Where the package pycocoevalcap lies; `UserError` where it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise UserError(
            "the caption metrics are those of pycocoevalcap, which is not installed; "
            "`pip install 'pad-pipeline[evaluate]'`"
        )
    return Path(places[0])


def run_java(arguments: Sequence[str], text: str) -> str:
    """What a program prints for a file of `text`, whose path is put behind its arguments.

    Raises `UserError` where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="pad-java-") as folder:
        source = Path(folder, "input.txt")
        source.write_bytes(text.encode("utf-8", "replace"))
        command = [find_java(), *_UTF8, *arguments, str(source)]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise _failed(arguments, done.stderr)
    return done.stdout.decode("utf-8")


class Dialogue:
    """A program that answers lines with lines."""

    def __init__(
        self, process: subprocess.Popen[bytes], arguments: Sequence[str], errors: Path
    ) -> None:
        self._process = process
        self._arguments = arguments
        self._errors = errors

    def say(self, line: str) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode("utf-8", "replace") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> str:
        """The next line of the answer, without its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return line.decode("utf-8").strip()

    def _ended(self) -> UserError:
        self._process.wait()
        return _failed(self._arguments, self._errors.read_bytes())


@contextmanager
def talk_to_java(arguments: Sequence[str]) -> Iterator[Dialogue]:
    """A program that runs for the block's time."""
    with tempfile.TemporaryDirectory(prefix="pad-java-") as folder:
        errors = Path(folder, "errors")  # a pipe that nobody reads fills up
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [find_java(), *_UTF8, *arguments],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        try:
            yield Dialogue(process, arguments, errors)
        finally:
            process.kill()
            process.communicate()


def _failed(arguments: Sequence[str], stderr: bytes) -> UserError:
    program = next((Path(word).name for word in arguments if word.endswith(".jar")), "Java")
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    reason = lines[-1].strip() if lines else "no message"
    return UserError(
        f"{program} ended early: {reason}; check the Java runtime with `java -version`"
    )
