"""Sentiment analysis of speech: one of three classes for each utterance."""
