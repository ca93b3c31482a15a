"""What ``fcit-cli init`` writes: recipes, the entries of a user's own files, and packages that extend the plugin."""
