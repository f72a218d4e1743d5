"""Which differences between results are more than noise: bootstraps over images, tests over seeds."""
