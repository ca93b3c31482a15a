"""Memory Aware Synapses, and a server rule that clips, for fcit-plugin."""
