"""Agent networks as citizens of Mesa models: observations, plans, and stepping in parallel."""
