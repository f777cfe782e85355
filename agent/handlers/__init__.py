"""Implementations of the port ``agent.handler``: one module for each way of answering a call."""
