"""Speed, latency and memory: measuring them, alone and at full throughput, and laying runs side by side."""
