"""Data and models to try the plugin with: drawn, in text, hard on purpose, and real ones from package registries."""
