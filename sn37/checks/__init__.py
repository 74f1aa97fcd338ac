"""What is checked of a submission (protocol, section 7): files, heads, configuration, weights, tokenizer."""
