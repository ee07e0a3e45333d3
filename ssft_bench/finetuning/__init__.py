"""Protocol finetuned: the upstream learns with the head."""
