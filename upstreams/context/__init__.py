"""Context-aware fine-tuning: a segment's summary for the head, drawn towards its neighbours' summaries."""
