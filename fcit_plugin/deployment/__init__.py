"""What an operator and its sites keep in files: certificates, keys, who takes part, and how the programs are started.

Files alone, no training: ``fcit-cli deploy`` and ``fcit-cli site`` write them, a run reads them.

**The operator's folder** (:mod:`.operator`): ``ca.key`` and ``ca.crt`` (the federation's own authority), ``server.key`` and
``server.crt`` (Flower's SuperLink), ``server.txt`` (host and port that sites connect to), ``superlink.sh`` and
``fcit-superlink.service``, ``sites.yaml`` and ``keys/`` (who takes part, :mod:`.sites`), ``recipe.yaml`` (the keys that a
recipe takes over), and ``kits/NAME/`` for each site: ``ca.crt``, ``server.txt``, ``site.yaml`` and ``README.md``.

**A site's folder** (:mod:`.site`): ``site.key`` and ``site.pub``, ``site.yaml``, ``fcit-site.service``, and the kit's
``ca.crt``. While a key is renewed also ``new.key`` and ``new.pub``.

What can be wrong with a file of theirs is said by :mod:`.keys`, :mod:`.certificates` and :mod:`.sites`; with a connection, by
:mod:`.connection` and :mod:`.refusals`. Each is one sentence (:class:`fcit_plugin.errors.FcitError`).
"""
