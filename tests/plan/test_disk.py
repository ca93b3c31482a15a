"""Disk space of a run."""

from fcit_plugin.plan.disk import Disk


def test_a_run_holds_the_commits_that_are_kept_and_the_one_that_is_written():
    disk = Disk(commits=(10, 20, 30, 40), kept=2, replies=7, updates=5)
    assert (disk.commit, disk.most) == (40, 20 + 30 + 40 + 40 + 5)
    assert Disk(commits=(10, 20, 30, 40), kept=0, replies=50, updates=0).most == 100 + 50
