"""Speed, memory and accuracy of this package against its baselines; each module is a command."""
