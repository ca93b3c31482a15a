"""How often the server asks the SuperLink who is there: once a look, for each question is a line of its log."""

from types import SimpleNamespace

from fcit_plugin.federation.superlink import SuperLink


class Control:
    """The Control API of a SuperLink that forgets all nodes when it starts again."""

    def __init__(self):
        self.nodes, self.asked, self.numbers = {}, 0, iter(range(1000))

    def ListNodes(self, request):  # the stub's
        self.asked += 1
        return SimpleNamespace(nodes_info=[*self.nodes.values()])

    def RegisterNode(self, request):
        fields = {"status": "online", "last_activated_at": "now", "unregistered_at": ""}
        self.nodes[request.public_key] = SimpleNamespace(node_id=next(self.numbers), public_key=request.public_key, **fields)
        return self.nodes[request.public_key]

    def UnregisterNode(self, request):
        next(node for node in self.nodes.values() if node.node_id == request.node_id).unregistered_at = "now"


def test_one_question_a_look_and_what_the_superlink_has_forgotten_is_registered_again():
    link, control, keys = SuperLink("127.0.0.1:1", "127.0.0.1:2", None), Control(), [b"%d" % number for number in range(20)]
    link._stub = control

    def look():
        before = control.asked
        online = link.online()
        numbers = [link.node_of(key) for key in keys]
        assert len({*numbers}) == len(keys)
        return {*online} == {*numbers}, control.asked - before

    assert look() == (False, 1 + len(keys)), "they are registered"
    assert [look() for _ in range(3)] == [(True, 1)] * 3
    control.nodes.clear()  # it was started again
    assert look() == (False, 1 + len(keys))
    assert look() == (True, 1)
    was = link.node_of(keys[3])
    link.forget(keys[3])
    assert link.node_of(keys[3]) != was, "a node that was shut out does not come back under its number"
