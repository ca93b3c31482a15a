"""The tests of an example run where it is installed: `.ci/run` installs it, and `pip install examples/fcit-mas` does."""

from importlib.metadata import entry_points

collect_ignore = [] if entry_points(group="fcit_plugin", name="mas") else ["fcit-mas"]
