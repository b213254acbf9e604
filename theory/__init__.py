"""Closed-form predictions."""

__distribution__ = "geomem-jax"
