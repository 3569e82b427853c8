"""Hydra over HTTP: requests, answers, retries."""
