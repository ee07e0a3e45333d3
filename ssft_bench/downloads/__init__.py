"""Corpora from their public sources: download, verify, unpack, put in place."""
