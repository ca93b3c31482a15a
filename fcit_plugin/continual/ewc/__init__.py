"""EWC: weights that mattered for earlier stages are held where they were (:mod:`.method`, :mod:`.options`)."""
