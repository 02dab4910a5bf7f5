"""`python -m examples.buyers_and_sellers`: people who haggle over pots."""

import sys

from examples.buyers_and_sellers.model import Market, by_rule, line
from examples.simulation import Example, main

EXAMPLE = Example("buyers_and_sellers", Market, by_rule, line, steps=3)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
