"""Text-to-speech: engines behind one protocol, and a cache of what they spoke."""

from ssft_bench.speech_synthesis.cache import SpeechCache, speech_folder
from ssft_bench.speech_synthesis.choose import pick_engine
from ssft_bench.speech_synthesis.engine import Engine, engine_id

__all__ = ["Engine", "SpeechCache", "engine_id", "pick_engine", "speech_folder"]
