"""How fast models are, side by side: interleaved rounds, ratios with intervals, and all that they depend on."""
