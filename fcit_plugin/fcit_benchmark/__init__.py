"""The FCIT benchmark on disk: its layout, checking it, converting it, and fetching what the hub has of it."""
