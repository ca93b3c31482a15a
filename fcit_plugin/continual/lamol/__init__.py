"""LAMOL: the model makes up records of earlier tasks before it trains on a new one."""
