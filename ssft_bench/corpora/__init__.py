"""Corpora: files on disk -> manifest rows."""
