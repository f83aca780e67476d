"""Reinforcement learning: environments with rllab's physics, sampling, and Algorithm 3.

Paper: sections 4.2 and 5.3.
"""
