"""The relay link: the agent dials out, calls come in over the stream (``his160.v1.RelayService``)."""
