"""What one GPU and a quarter of an hour are turned into: parity, speed, two processes, and the ladder's fourth rung."""
