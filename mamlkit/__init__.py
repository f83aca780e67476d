"""MAML (Finn, Abbeel & Levine, ICML 2017), reproduced.

Modules are the namespaces: ``from mamlkit import maml, tasks``.
"""
