"""`python -m examples.sugar_trade`: traders of sugar and spice who think about prices."""

import sys

from examples.simulation import Example, main
from examples.sugar_trade.model import SugarTrade, by_rule, line

EXAMPLE = Example("sugar_trade", SugarTrade, by_rule, line, steps=3)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
