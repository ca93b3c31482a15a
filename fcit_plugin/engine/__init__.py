"""A run: the session, the training of clients, evaluation, commits, the dry run, the stages."""
