"""How an agent decides: observations, plans, and strategies that make one from the other."""
