"""Named entity recognition from speech: tagged text by CTC, scored in entities."""
