"""Secure aggregation: the server learns sums of updates and none of them (Bonawitz et al. 2017, all pairs, signed).

A round has one sum for each subspace over the clients that train it, and one for the projector over all. Each sum has key
pairs, self masks and shares of its own. A client c sends, of each of its sums, integers mod 2^32

    y_c = x_c + self_c + sum over d > c of pair_cd - sum over d < c of pair_cd

with pair_cd from a Diffie-Hellman secret of c and d: in the sum over all clients the pairs cancel. Shares of every secret lie
with the other clients of the sum, so that those that stay can give the self masks of those that stay and the pair keys of
those that are gone, never both of one client. Five exchanges:

====== ================================ ====================================================
step   the server sends                 a site answers
====== ================================ ====================================================
keys   session                          public keys, signed by the site
shares the signed keys of all           shares for each other client, sealed; the self masks' digests
train  weights; the shares for the site masked updates
agree  who has sent one (the survivors) the site's signature over this list
unmask the list with enough signatures  shares of what has to be taken off
====== ================================ ====================================================

:mod:`.fixed` has the integers, :mod:`.masks` the masks, :mod:`.shares` the shares, :mod:`.texts` the form of the messages,
:mod:`.site` and :mod:`.server` the two parts, :mod:`.store` what a site keeps. Nothing here knows of Flower.
"""
