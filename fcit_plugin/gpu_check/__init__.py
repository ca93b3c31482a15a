"""What tests cannot show without a GPU: checks of whole runs and of answers on the card at hand (``fcit-cli gpu-check``)."""
