"""A SUPERB-style benchmark for self-supervised fine-tuning of speech models and their interfaces."""

__version__ = "0.1.0"
