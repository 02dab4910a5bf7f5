"""Mesa's example models, none of which plans, are through the hook what they are without it."""

from __future__ import annotations

import enum
import importlib
import inspect
import random
from typing import Any

import numpy as np
import pytest
from mesa.experimental.devs import ABMSimulator

from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.stepping import last_report

EXAMPLES = {
    "basic.boltzmann_wealth_model": "BoltzmannWealth",
    "basic.schelling": "Schelling",
    "basic.virus_on_network": "VirusOnNetwork",
    "basic.boid_flockers": "BoidFlockers",
    "basic.conways_game_of_life": "ConwaysGameOfLife",
    "advanced.epstein_civil_violence": "EpsteinCivilViolence",
    "advanced.pd_grid": "PdGrid",
    "advanced.sugarscape_g1mt": "SugarscapeG1mt",
    "advanced.wolf_sheep": "WolfSheep",
    "advanced.alliance_formation": "MultiLevelAllianceModel",
}


# These activate nothing by the words that the hook takes, but must not be disturbed either.
WITHOUT_WORDS = {"advanced.alliance_formation", "advanced.sugarscape_g1mt"}


def example(where: str) -> Any:
    """One of Mesa's example models; how they take their seed differs between its versions."""
    module = importlib.import_module(f"mesa.examples.{where}.model")
    kind = getattr(module, EXAMPLES[where])
    words = inspect.signature(kind).parameters
    if "scenario" in words:
        scenarios = [each for each in vars(module).values() if is_scenario(each)]
        return kind(scenario=scenarios[-1](rng=42))
    more: dict[str, Any] = {"simulator": ABMSimulator()} if "simulator" in words else {}
    if "activation_order" in words:
        more["activation_order"] = "Simultaneous"  # the one that names methods
    return kind(**{"rng" if "rng" in words else "seed": 42}, **more)


def is_scenario(candidate: Any) -> bool:
    return inspect.isclass(candidate) and candidate.__name__.endswith("Scenario")


def digest(model: Any) -> Any:
    """All of a model that says anything: its agents, its random streams, what it has collected."""
    return (
        [(type(agent).__name__, agent.unique_id, plain(vars(agent))) for agent in model.agents],
        model.random.getstate(),
        str(model.rng.bit_generator.state),
        model.datacollector.model_vars if hasattr(model, "datacollector") else None,
    )


def plain(state: dict[str, Any]) -> dict[str, str]:
    """What of an agent's state has a value that says more than an address."""
    kinds = (int, float, str, tuple, list, dict, set, np.generic, np.ndarray, enum.Enum)
    said = {name: repr(value) for name, value in state.items() if isinstance(value, kinds)}
    cell = state.get("_mesa_cell", state.get("cell"))
    said["cell"] = repr(getattr(cell, "coordinate", None))
    return {name: text for name, text in said.items() if " object at 0x" not in text}


def run(where: str, *, hooked: bool) -> Any:
    # The network of the virus is drawn from global streams.
    random.seed(42)
    np.random.seed(42)  # noqa: NPY002
    model = example(where)
    for _ in range(5):
        if hooked:
            with enable_automatic_parallel_stepping(model):
                model.step()
        else:
            model.step()
    report = last_report(model)
    assert (report is not None) is (hooked and where not in WITHOUT_WORDS)
    assert report is None or report.failures == ()
    return digest(model)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("where", EXAMPLES)
def test_an_example_is_the_same_with_the_hook_and_without(where: str) -> None:
    assert run(where, hooked=True) == run(where, hooked=False)
