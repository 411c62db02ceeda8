"""SAM and the instruments in other people's training loops: short programs to copy from."""
