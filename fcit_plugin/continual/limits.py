"""Why methods and rules cannot be trained with some keys, where several have the same reason."""

WHOLE_GRADIENTS = "adds to gradients, which must be whole and not scaled"
SINGLE_LAYERS = "looks at the factors of single layers, which in fused experts are of many"
