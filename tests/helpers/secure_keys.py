"""Keys of recipes with secure sums; the files that they name need not be there."""

NETWORK = {
    "fcit_engine": "flower",
    "fcit_sites": "sites.yaml",
    "fcit_certificate": "ca.crt",
    "fcit_server_certificate": "server.crt",
    "fcit_server_key": "server.key",
}


def secure(norm=1.0, samples=4096):
    """Of a server, with the bounds on norm and examples that secure sums need."""
    return {**NETWORK, "fcit_secure_sum": True, "fcit_max_update_norm": norm, "fcit_max_client_samples": samples}


def secure_site():
    """Of one of its sites."""
    server = {key: value for key, value in secure().items() if key not in NETWORK}
    return {**server, "fcit_sites": NETWORK["fcit_sites"], "fcit_site_key": "site.key"}
