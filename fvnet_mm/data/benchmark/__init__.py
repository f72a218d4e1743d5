"""The ``shapes`` benchmark: generated images on which detectors and segmentors of all sizes can be told apart."""
