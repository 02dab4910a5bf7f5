"""Names of a package that are imported when they are first asked for (PEP 562).

Floor 0. Whoever asks for a handle on a model need not wait for the actors. What type checkers see
stands in the package's `__init__.pyi`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["exports"]


def exports(
    package: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package.

    Args:
        package: Its `__name__`.
        homes: The names that each module gives, with spaces between them.
    """
    module_of = {name: module for module, names in homes.items() for name in names.split()}

    def getattr_(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(module_of[name])
        # Kept, so that it is found at once from now on.
        value = vars(sys.modules[package])[name] = getattr(module, name)
        return value

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return sorted(module_of), getattr_, dir_
