"""The process: command line, configuration, lifecycle, gRPC services, the link to the relay, jobs, logs."""
