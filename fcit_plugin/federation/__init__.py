"""The federated program: server state, rounds, messages, and the grid that carries them."""
