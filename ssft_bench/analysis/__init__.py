"""What is in hidden states: isotropy, phones in codes, speakers, speed of learning, words."""
