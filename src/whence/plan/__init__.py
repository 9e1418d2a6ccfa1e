"""What a method would cost here, before it is run: work, memory, disk and time of each phase, and whether it fits."""
