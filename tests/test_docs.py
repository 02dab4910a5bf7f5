"""What our pages and docstrings show, works; and the checker of that can fail."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from llm_net.llm.waiting import in_background
from mesa_bridge import disable_automatic_parallel_stepping, threads
from tests import snippets

ROOT = Path(__file__).parents[1]
MINDS = ("llm", "tools", "memory", "reasoning")


def _documents() -> list[snippets.Document]:
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    pages += sorted(ROOT.glob("examples/*/README.md"))
    found = [snippets.markdown(page, page.relative_to(ROOT).as_posix()) for page in pages]
    sources = [*sorted(ROOT.glob("llm_net/**/*.py")), *sorted(ROOT.glob("mesa_bridge/**/*.py"))]
    for source in sources:
        found += snippets.docstrings(source, source.relative_to(ROOT).as_posix())
    return found


@pytest.fixture(autouse=True, scope="module")
def _loops_that_last() -> None:
    """Two event loops last as long as the process; a page that wakes them has forgotten nothing."""
    in_background(asyncio.sleep(0)).result()
    threads.loop_at(0)


@pytest.fixture(autouse=True)
def _idle_threads_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_S", 0.1)


@pytest.fixture(autouse=True)
def _mesa_as_it_was() -> Iterator[None]:
    yield
    disable_automatic_parallel_stepping()


@pytest.mark.parametrize("document", _documents(), ids=lambda document: document.label)
def test_a_document_does_what_it_says(
    document: snippets.Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what a snippet writes, it writes there
    snippets.check(document, root=ROOT)


def test_the_design_names_every_module_of_minds_and_of_the_bridge() -> None:
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    minds, _, bridge = page.partition("## Models and minds")[2].partition("## The bridge")
    modules = [path for each in MINDS for path in ROOT.glob(f"llm_net/{each}/[!_]*.py")]
    assert _missing(minds, modules) == []
    assert _missing(bridge, ROOT.glob("mesa_bridge/[!_]*.py")) == []


def _missing(section: str, modules: Iterable[Path]) -> list[str]:
    """The modules that no table of the section names."""
    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    return sorted(path.stem for path in modules if not re.search(rf"`(\w+/)?{path.stem}`", rows))


# -- the checker itself


def _check(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(dedent(text), encoding="utf-8")
    snippets.check(snippets.markdown(page, "page.md"), root=ROOT)


def test_a_later_snippet_uses_what_an_earlier_one_defined(tmp_path: Path) -> None:
    _check(
        tmp_path,
        """
        ```python
        from __future__ import annotations
        from pydantic import BaseModel

        class Bid(BaseModel):
            price: float
            beaten_by: Bid | None = None
        ```

        Any text.

        ```python
        print(Bid(price=3, beaten_by=Bid(price=2)).beaten_by.price)
        ```

        <!-- output -->
        ```text
        2.0
        ```
        """,
    )


def test_a_snippet_may_await(tmp_path: Path) -> None:
    _check(
        tmp_path,
        """
        ```python
        import asyncio

        lock = asyncio.Lock()
        await lock.acquire()
        ```
        ```python
        async with asyncio.timeout(5):
            waiting = asyncio.ensure_future(lock.acquire())
            await asyncio.sleep(0)
            lock.release()
            print(await waiting)
        ```
        <!-- output -->
        ```text
        True
        ```
        """,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nx = 1\n1 / 0\n```", r"page\.md:3: ZeroDivisionError"),
        ("```python\nx = 1\nx = = 2\n```", r"page\.md:3: SyntaxError"),
        ("```python\ndef f():\n    1 / 0\n```\n```python\nf()\n```", r"page\.md:3: Zero"),
        ("```python\nimport sys\nsys.exit(0)\n```", r"page\.md:3: SystemExit"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", r"page\.md:3: UserWarning"),
        ("```python\n>>> 1 + 1\n3\n```", r"page\.md:2: an example(.|\n)*Got:\n    2"),
        ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```", r"page\.md:6: .*says"),
        ("```python\nprint(1)\n```\nOr:\n<!-- output -->\n```text\n1\n```", r"page\.md:7: .*foll"),
        ("<!-- output -->\n```text\n1\n```", r"page\.md:3: .*directly"),
        ("```python\nprint(1)\n```\n<!-- output -->\n```json\n1\n```", r"page\.md:6: .*text or"),
        ("<!-- not run -->\n```python\n1 / 0\n```", r"page\.md:3: .*for a reason"),
        ("<!-- not run: -->\n```python\n1 / 0\n```", r"page\.md:3: .*for a reason"),
        ("```python\nprint(1)", r"page\.md:1: .*never closed"),
        ("```sh\nmake coffee\n```", r"page\.md:2: .*no coffee"),
        ("```sh\ncd . && X=1 make -j2 test coffee\n```", r"page\.md:2: .*no coffee"),
        ("```sh\npython3 -m tests.nowhere\n```", r"page\.md:2: .*'tests\.nowhere'"),
        ("```sh\n.venv/bin/python -m tests\n```", r"page\.md:2: .*'tests'"),
    ],
)
def test_a_page_that_does_not_hold_is_reported_with_file_and_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(snippets.SnippetError, match=complaint):
        _check(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- not run: needs a key -->\n```python\n1 / 0\n```",
        "```toml\nmake = [\n```",
        "```sh\n# make coffee\n$ make -j2 test PYTHON=python3.12 && python -m pytest -x\n```",
        "```sh\npip install 'llm-net[local]'\n```",
        "~~~python\nprint('```')\n~~~\n<!-- output -->\n~~~text\n```\n~~~",
        "```python\nif __name__ == '__main__':\n print(1)\n```\n<!-- output -->\n```text\n1\n```",
        "1. In a list:\n\n   ```python\n   for n in [1]:\n       print(n)\n   ```",
    ],
)
def test_a_page_that_holds_is_accepted(tmp_path: Path, text: str) -> None:
    _check(tmp_path, text)


def test_a_thread_that_is_left_running_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(snippets, "OVER", over, raising=False)  # within the page's reach
    monkeypatch.setattr(snippets, "THREAD_GRACE_S", 0.01)
    page = """
    ```python
    import threading
    from tests import snippets

    thread = threading.Thread(target=snippets.OVER.wait, name="forgotten")
    thread.start()
    ```
    """
    try:
        with pytest.raises(snippets.SnippetError, match="forgotten"):
            _check(tmp_path, page)
    finally:
        over.set()
        for thread in threading.enumerate():
            if thread.name == "forgotten":
                thread.join()


def test_every_docstring_is_read_and_its_examples_and_fences_run_in_order(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        dedent(
            '''
            """Nothing to run here."""

            LIMIT = 3
            """Three.

            >>> 1 + 2
            3
            """


            class Agent:
                def ask(self):
                    """Ask.

                    >>> x = 1

                    ```python
                    x += 1
                    ```

                    >>> x
                    3
                    """
            '''
        ),
        encoding="utf-8",
    )
    limit, ask = snippets.docstrings(source, "source.py")
    assert (limit.label, ask.label) == ("source.py", "source.py::Agent.ask")
    snippets.check(limit, root=ROOT)
    with pytest.raises(snippets.SnippetError, match=r"source\.py:22: (.|\n)*Got:\n    2"):
        snippets.check(ask, root=ROOT)
