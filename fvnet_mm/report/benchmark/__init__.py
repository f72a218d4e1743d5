"""Tables and plots of what the benchmark of speed recorded."""
