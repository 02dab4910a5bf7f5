"""`python -m examples.town`: households that are networks of people."""

import sys

from examples.simulation import Example, main
from examples.town.model import Town, by_rule, line

EXAMPLE = Example("town", Town, by_rule, line, steps=3)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
