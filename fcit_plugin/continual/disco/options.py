"""DISCO and DISCO plus as parts; their keys are the organizer's (:mod:`fcit_plugin.arguments.method`), as all methods' are."""

from ...parts import Part

DISCO = Part("fcit_plugin.continual.disco.method:Disco")
DISCO_PLUS = Part(
    "fcit_plugin.continual.disco.method:DiscoPlus",
    cannot_go_with={"fcit_identity_noise": "has clients report their kinds of instructions, without noise"},
)
