"""Suites: many trainings described in one YAML file, planned, run and watched. docs/suite.md explains the file.

Reading a suite and telling the state of its jobs need neither torch nor the OpenMMLab libraries.
"""
