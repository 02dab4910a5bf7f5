"""Finds the snippets in our pages and docstrings, and runs them as a reader would.

A document is a markdown file or one docstring. Its Python snippets run in order, in one fresh
`__main__`, so that a later one may use what an earlier one defined; `await` needs no function
around it. In docstrings, `>>>` examples count as well as fences. HTML comments on the line before
a fence speak to this module and not to the reader:

- `<!-- output -->` before a `text` or `console` fence that directly follows a Python snippet: this
  is what the snippet prints.
- `<!-- not run: reason -->` before a Python fence: leave it out. There is no way without a reason.

Shell fences are not run. Of each it is checked that the `make` targets and the `python -m` modules
that it names exist.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import importlib.util
import inspect
import io
import re
import shlex
import sys
import threading
import time
import traceback
import types
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PYTHON = frozenset({"py", "pycon", "python", "python3"})
OUTPUT = frozenset({"console", "text"})
SHELL = frozenset({"bash", "sh", "shell"})

THREAD_GRACE_S = 5.0
"""How long threads may take to end after the last snippet of their document."""

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")
_COMMENT = re.compile(r"^\s*<!--\s*(?P<text>.*?)\s*-->\s*$")
_TARGET = re.compile(r"^([A-Za-z0-9_-]+):(?!=)", re.MULTILINE)
_INTERPRETER = re.compile(r"^python[0-9.]*$")


class SnippetError(AssertionError):
    """A snippet does not do what its page says; the text begins with file and line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snippet:
    """A fence, or one `>>>` example outside of fences.

    Attributes:
        line: The line of the file on which the code begins, from 1.
        language: The first word after the fence.
        code: The text, without the indentation of its fence.
        examples: What doctest finds in it; a snippet that has some is run by doctest.
        comment: What the HTML comment on the line before says, or nothing.
        output_of: The line of the Python fence that this fence directly follows, or None.
    """

    line: int
    language: str
    code: str
    examples: tuple[doctest.Example, ...] = ()
    comment: str = ""
    output_of: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A markdown file, or one docstring of a Python file.

    Attributes:
        path: The file.
        label: What a report calls the document.
        snippets: In the order of the file.
    """

    path: Path
    label: str
    snippets: tuple[Snippet, ...]


# -- finding


def markdown(path: Path, label: str) -> Document:
    """Read a markdown file, which may hold no snippet at all."""
    text = path.read_text(encoding="utf-8")
    snippets, _ = _fences(text.splitlines(), path, 1)
    return Document(path=path, label=label, snippets=tuple(snippets))


def docstrings(path: Path, label: str) -> Iterator[Document]:
    """Read a Python file: each docstring that holds snippets is a document.

    A string that stands below an attribute documents it, and counts too.
    """
    for name, literal in _literals(ast.parse(path.read_text(encoding="utf-8"))):
        lines = str(literal.value).splitlines()
        snippets, outside = _fences(lines, path, literal.lineno)
        for example in _examples("\n".join(outside), path, literal.lineno):
            line = literal.lineno + example.lineno
            example.lineno = 0
            snippets.append(
                Snippet(line=line, language="pycon", code=example.source, examples=(example,))
            )
        snippets.sort(key=lambda snippet: snippet.line)
        if snippets:
            yield Document(
                path=path, label=f"{label}::{name}".rstrip(":"), snippets=tuple(snippets)
            )


def _literals(node: ast.AST, name: str = "") -> Iterator[tuple[str, ast.Constant]]:
    """Every string that is a statement of its own, with the name of what it stands in."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Expr(value=ast.Constant(value=str()) as literal):
                yield name, literal
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _literals(child, f"{name}.{child.name}".lstrip("."))
            case _:
                yield from _literals(child, name)


def _examples(text: str, path: Path, first_line: int) -> list[doctest.Example]:
    try:
        return doctest.DocTestParser().get_examples(text, str(path))
    except ValueError as error:  # its text counts lines from the start of the docstring
        message = f"{path}:{first_line}: a >>> example in this docstring is malformed: {error}"
        raise SnippetError(message) from error


def _fences(lines: Sequence[str], path: Path, first_line: int) -> tuple[list[Snippet], list[str]]:
    """The fences of a text, and the text with its fences blanked."""
    found: list[Snippet] = []
    outside = list(lines)
    previous_end = 0
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        fence, start = opening["fence"], number + 1
        closing = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
        end = next((n for n in range(start, len(lines)) if closing.match(lines[n])), None)
        if end is None:
            message = f"{path}:{first_line + number}: this fence is never closed."
            raise SnippetError(message)
        comment = _COMMENT.match(lines[number - 1]) if number else None
        between = lines[previous_end : number - 1 if comment else number]
        directly = bool(found) and not "".join(between).strip()
        language = next(iter(opening["info"].split()), "").lower()
        code = "\n".join(line.removeprefix(opening["indent"]) for line in lines[start:end])
        prompts = language in PYTHON and code.lstrip().startswith(">>>")
        found.append(
            Snippet(
                line=first_line + start,
                language=language,
                code=code,
                examples=tuple(_examples(code, path, first_line + start)) if prompts else (),
                comment=comment["text"] if comment else "",
                output_of=found[-1].line if directly and found[-1].language in PYTHON else None,
            )
        )
        outside[number : end + 1] = [""] * (end + 1 - number)
        number = previous_end = end + 1
    return found, outside


# -- running


def check(document: Document, *, root: Path) -> None:
    """Run a document's snippets in order, and compare what it says they print.

    Args:
        document: What to run.
        root: The project's directory, whose Makefile the shell snippets are held to.

    Raises:
        SnippetError: If a snippet raises, prints something else than its page says, or leaves a
            thread behind; if a comment is not understood; if a command does not exist.
    """
    threads = set(threading.enumerate())
    main = types.ModuleType("__main__")
    before = sys.modules["__main__"]
    # pydantic, pickle and typing look a class's module up: it has to be the one they find.
    sys.modules["__main__"] = main
    runner = asyncio.Runner()  # makes its loop at the first `await`; one for the whole document
    printed: dict[int, str] = {}
    try:
        for snippet in document.snippets:
            where = f"{document.path}:{snippet.line}"
            if snippet.language in PYTHON:
                if not _left_out(snippet, where):
                    printed[snippet.line] = _run(snippet, document, main, runner)
            elif snippet.comment == "output":
                _compare(snippet, printed, where)
            elif snippet.language in SHELL:
                _check_commands(snippet, root, where)
    finally:
        runner.close()
        sys.modules["__main__"] = before
    _wait_for_threads(threads, document)


def _left_out(snippet: Snippet, where: str) -> bool:
    if not snippet.comment.startswith("not run"):
        return False
    if not re.match(r"not run:\s*\S", snippet.comment):
        message = f"{where}: a snippet is left out for a reason: <!-- not run: reason -->."
        raise SnippetError(message)
    return True


def _run(
    snippet: Snippet, document: Document, main: types.ModuleType, runner: asyncio.Runner
) -> str:
    """Run one snippet; gives what it printed."""
    if snippet.examples:
        _run_examples(snippet, document, main)
        return ""
    # Put down by as many empty lines as stand above it in the file, so that every traceback,
    # of ours and of the snippet, names the file's own lines.
    source = "\n" * (snippet.line - 1) + snippet.code
    output = io.StringIO()
    try:
        code = compile(
            source,
            str(document.path),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        with contextlib.redirect_stdout(output):
            waiting = eval(code, main.__dict__)
            if inspect.iscoroutine(waiting):
                runner.run(waiting)
    except (Exception, SystemExit) as error:
        message = f"{_place(error, snippet, document)}: {type(error).__name__}: {error}"
        raise SnippetError(message) from error
    return output.getvalue()


def _place(error: BaseException, snippet: Snippet, document: Document) -> str:
    """The file and line of the document on which an error arose."""
    line = snippet.line
    if isinstance(error, SyntaxError) and error.filename == str(document.path):
        line = error.lineno or line
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(document.path):
            line = frame.lineno or line
    return f"{document.path}:{line}"


def _run_examples(snippet: Snippet, document: Document, main: types.ModuleType) -> None:
    test = doctest.DocTest(
        examples=list(snippet.examples),
        globs=main.__dict__,
        name=document.label,
        filename=str(document.path),
        lineno=snippet.line - 1,
        docstring=None,
    )
    # DocTest copies the names it is given; the next snippet wants to see what this one defines.
    test.globs = main.__dict__
    report = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=report.write, clear_globs=False)
    if runner.failures:
        message = f"{document.path}:{snippet.line}: an example does not do what it says.\n"
        raise SnippetError(message + report.getvalue())


def _compare(snippet: Snippet, printed: dict[int, str], where: str) -> None:
    if snippet.language not in OUTPUT or snippet.output_of is None:
        message = (
            f"{where}: <!-- output --> stands before a fence of text or console that directly "
            "follows a Python fence, and here it does not."
        )
        raise SnippetError(message)
    if snippet.output_of not in printed:
        message = f"{where}: this is called the output of a snippet that is not run."
        raise SnippetError(message)
    said, got = snippet.code.rstrip(), printed[snippet.output_of].rstrip()
    if said != got:
        message = f"{where}: the page says that the snippet prints\n{said}\n\nbut it prints\n{got}"
        raise SnippetError(message)


def _wait_for_threads(before: set[threading.Thread], document: Document) -> None:
    deadline = time.monotonic() + THREAD_GRACE_S
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in new if thread.is_alive()]
    if left:
        message = (
            f"{document.path}: {document.label} leaves threads running: {', '.join(left)}. "
            "Its last snippet must stop what the document starts."
        )
        raise SnippetError(message)


# -- commands


def _check_commands(snippet: Snippet, root: Path, where: str) -> None:
    targets = set(_TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    for words in _commands(snippet.code):
        if words[0] == "make":
            # Options and variables apart, what follows make are targets.
            named = {word for word in words[1:] if not word.startswith("-") and "=" not in word}
            if not named <= targets:
                message = f"{where}: the Makefile has no {', '.join(sorted(named - targets))}."
                raise SnippetError(message)
        elif _INTERPRETER.match(PurePath(words[0]).name) and words[1:2] == ["-m"]:
            module = "".join(words[2:3])
            if not _is_runnable(module):
                message = f"{where}: there is no module {module!r} that Python could run."
                raise SnippetError(message)


def _commands(code: str) -> Iterator[list[str]]:
    """The words of every command, without the variables set before it."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if words:
                    yield words
                words = []
            elif words or "=" not in word:
                words.append(word)


def _is_runnable(module: str) -> bool:
    if module == "pip":  # an environment that was made without it is filled from outside
        return True
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except (ImportError, ValueError):
        return False
    return spec is not None
