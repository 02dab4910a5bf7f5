"""`python -m examples.civil_violence`: citizens who ask a language model whether to rebel."""

import sys

from examples.civil_violence.model import CivilViolence, by_rule, line
from examples.simulation import Example, main

EXAMPLE = Example("civil_violence", CivilViolence, by_rule, line, steps=3)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
