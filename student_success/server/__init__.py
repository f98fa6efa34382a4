"""BentoML, uvicorn and circus, configured and hardened."""
