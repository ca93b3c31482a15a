"""Why methods and rules cannot be trained with some keys, where several have the same reason."""

WHOLE_GRADIENTS = "adds to gradients, which must be whole and not scaled"
