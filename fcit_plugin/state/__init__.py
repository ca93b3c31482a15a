"""What the server knows, as objects and as folders: state, commits, progress, and looking into them; no trainer."""
