"""The names of the probes; apart from them, since a command line shows these names without importing torch."""

MODELS = ("linear", "tiny", "resnet18")
