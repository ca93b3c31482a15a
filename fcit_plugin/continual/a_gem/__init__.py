"""A-GEM: no step may go against the gradient of records that a client keeps of earlier tasks."""
