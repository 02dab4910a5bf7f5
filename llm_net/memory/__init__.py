"""Memory: what an agent keeps of what it saw, said and did."""
