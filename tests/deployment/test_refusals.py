"""What a refused site is told; that Flower says it in these words is shown in test_superlink_script.py."""

import stat

import pytest

from fcit_plugin.deployment.refusals import why_refused
from fcit_plugin.federation.site_executor import SuperNode

LOG = """\
INFO :      Starting Flower SuperNode
ERROR :     <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.FAILED_PRECONDITION
\tdetails = "{details}"
\tdebug_error_string = "FAILED_PRECONDITION:{details}"
>
"""


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ("No SuperNode found with the given public key.", "The server does not know this site's key"),
        ("SuperNode with node ID 123 could not be activated.", "The server still takes an earlier SuperNode"),
        ("Invalid timestamp", "This machine's clock"),
        ("Invalid node ID", "The SuperLink has been started again"),
        ("Invalid signature", "make a new key"),
        ("something new", "The server says: something new"),
        ("x" * 5000, "The server says: " + "x" * 300),
    ],
)
def test_each_refusal_has_its_sentence_and_the_last_counts(details, said):
    log = LOG.format(details="Invalid timestamp") + LOG.format(details=details)
    assert said in why_refused(log) and len(why_refused(log)) < 400


@pytest.mark.parametrize("log", ["", "INFO :      Starting Flower SuperNode\n", 'a details = "x" within a line\n'])
def test_a_log_without_a_refusal_says_nothing(log):
    assert why_refused(log) is None


def test_a_site_says_each_reason_once_and_its_log_is_for_itself_alone(tmp_path, caplog):
    refusals = tmp_path / "refusal"
    refusals.write_text(LOG.format(details="Invalid timestamp"))
    with SuperNode(["/bin/cat", str(refusals)], tmp_path / "log", pause=0.0) as supernode:

        def ends(times):
            for _ in range(times):
                supernode._process.wait()
                supernode.look()

        ends(3)
        refusals.write_text(LOG.format(details="something new"))
        ends(3)
        refusals.write_text("")
        ends(3)
    said = [message.partition(". It is started again")[0] for message in caplog.messages]
    assert [line[:14] for line in said] == ["This machine's", "The server say", "The SuperNode "]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
