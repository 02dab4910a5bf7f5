"""Docstrings, read as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.tools.docstrings import read

NAMES = ("price", "to")


def test_a_google_docstring_gives_the_description_and_a_text_for_each_parameter() -> None:
    text = """Pay somebody.

    Only what is owed.

    Args:
        price: In euros,
            rounded: to cents.
        to (list[tuple[int, str]], optional): Who gets it.

    Returns:
        price: What is left.

    Raises:
        ValueError: If it is too much.
    """
    described, texts = read(text, NAMES)
    assert described == "Pay somebody.\n\nOnly what is owed."
    assert texts == {"price": "In euros, rounded: to cents.", "to": "Who gets it."}


@pytest.mark.parametrize("header", ["Args:", "Arguments:", "Parameters:", "Params:"])
@given(
    indents=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    gap=st.text(" ", max_size=3),
    kind=st.sampled_from(["", " (int)", "(str, optional)", " (dict[str, tuple[int, int]])"]),
)
def test_every_indent_and_every_spacing_is_read_the_same(
    header: str, indents: list[int], gap: str, kind: str
) -> None:
    items = [f"price{kind}{gap}: In euros,", "without: cents.", f"to{gap}:{gap}Who gets it."]
    lines = [" " * indent + item for indent, item in zip(indents, items, strict=True)]
    described, texts = read("\n".join(["Pay.", "", header, *lines]), NAMES)
    assert described == "Pay."
    assert texts == {"price": "In euros, without: cents.", "to": "Who gets it."}


@given(st.text())
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    described, texts = read(f"Args:\n{text}", NAMES)
    assert isinstance(described, str)
    assert set(texts) <= set(NAMES)


@pytest.mark.parametrize("text", [None, "", "   \n  "])
def test_a_function_needs_no_docstring(text: str | None) -> None:
    assert read(text, NAMES) == ("", {})


def test_what_stands_after_the_parameters_belongs_to_the_description() -> None:
    text = "Pay.\n\nArgs:\n    price: In euros.\n\nThink twice.\n\nReturns:\n    Nothing."
    assert read(text, NAMES) == ("Pay.\n\nThink twice.", {"price": "In euros."})


def test_a_section_ends_the_parameters_however_it_is_indented() -> None:
    text = "Pay.\n\nArgs:\n  price: In euros.\n    Returns:\n      What is left."
    assert read(text, NAMES) == ("Pay.", {"price": "In euros."})


def test_a_parameter_without_a_text_has_none() -> None:
    assert read("Pay.\n\nArgs:\n    price:\n    to: A name.", NAMES)[1] == {"to": "A name."}
