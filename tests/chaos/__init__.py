"""A run that is disturbed at random until it is done, and whose bytes are then compared; a seed repeats it."""
