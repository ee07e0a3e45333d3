"""Corpora: files on disk -> manifest rows."""

CORPORA = {
    "an4": ("ssft_bench.corpora.an4", "AN4"),
    "folder": ("ssft_bench.corpora.audio_folder", "AudioFolder"),
    "librispeech": ("ssft_bench.corpora.librispeech", "LibriSpeech"),
    "mini": ("ssft_bench.corpora.mini_corpus", "Mini"),
}
"""Name on the command line -> module and class, imported when asked for by the registry."""
