"""``fcit-cli plugins``: what is registered, by whom, with which keys."""

from importlib.metadata import version

from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.parts import KINDS
from fcit_plugin.plugins import registry


class ThirdParty:
    @hookimpl
    def fcit_metrics(self):
        return {"first_letter": lambda predictions, answers: 0.0}


def test_every_part_is_listed_with_its_package_and_its_keys(register, capsys):
    register(ThirdParty())
    args = make_parser(COMMANDS).parse_args(["plugins"])
    assert args.command.run(args) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert len(blocks) == len(KINDS)
    for kind, block in zip(KINDS, blocks, strict=True):
        head, *lines = block.splitlines()
        assert head.startswith(kind.replace("_", " "))
        assert [line.split()[0] for line in lines] == list(registry(kind))
        for line in lines:
            assert registry(kind)[line.split()[0]].package in line
    assert all(f"fcit-plugin {version('fcit-plugin')}" in line for line in blocks[0].splitlines()[1:])
    assert "fcit_ewc_lambda (1000), fcit_ewc_samples (64)" in blocks[1]
