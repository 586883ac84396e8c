"""What operators watch: metrics for Prometheus, and traces and metrics for a collector of OpenTelemetry."""
