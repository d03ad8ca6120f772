"""What a radiograph, a code, a token, a prompt and a checkpoint are.

Nothing in this package knows HTTP, environment variables or global state; the service and
the training package are both built on it, so that both see the same pixels and the same ids.
"""
