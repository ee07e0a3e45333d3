"""Corpora: files on disk -> manifest rows."""

CORPORA = {
    "an4": ("ssft_bench.corpora.an4", "AN4"),
    "folder": ("ssft_bench.corpora.audio_folder", "AudioFolder"),
    "keywords": ("ssft_bench.corpora.keywords", "Keywords"),
    "librilight_10h": ("ssft_bench.corpora.librilight", "LibriLight10h"),
    "librilight_10min": ("ssft_bench.corpora.librilight", "LibriLight10min"),
    "librilight_1h": ("ssft_bench.corpora.librilight", "LibriLight1h"),
    "librispeech": ("ssft_bench.corpora.librispeech", "LibriSpeech"),
    "librispeech_rewire_1": ("ssft_bench.corpora.rewire_subsets", "Rewire1"),
    "librispeech_rewire_10": ("ssft_bench.corpora.rewire_subsets", "Rewire10"),
    "librispeech_rewire_100": ("ssft_bench.corpora.rewire_subsets", "Rewire100"),
    "mini": ("ssft_bench.corpora.mini_corpus", "Mini"),
    "mini_phrases": ("ssft_bench.corpora.mini_corpus", "MiniPhrases"),
    "quesst14": ("ssft_bench.corpora.quesst14", "Quesst14"),
    "slue_voxceleb": ("ssft_bench.corpora.slue_voxceleb", "SlueVoxCeleb"),
    "slue_voxpopuli": ("ssft_bench.corpora.slue_voxpopuli", "SlueVoxPopuli"),
    "speech_to_intent": ("ssft_bench.corpora.speech_to_intent", "SpeechToIntent"),
}
"""Name on the command line -> module and class, imported when asked for by the registry."""
