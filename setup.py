"""What setup.cfg cannot say: the folders at the top of the checkout go into the package when it is built."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("dataset_info", "recipes")


class BuildWithFolders(build_py):
    """Copies the folders into the built package; an editable install reads them where they are (fcit_plugin/shipped.py)."""

    def run(self) -> None:
        """Build the package, then add the folders."""
        super().run()
        if not self.editable_mode:
            for folder in FOLDERS:
                self.copy_tree(folder, str(Path(self.build_lib, "fcit_plugin", folder)))


setup(cmdclass={"build_py": BuildWithFolders})
