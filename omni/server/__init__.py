"""An OpenAI-compatible server of one model, and a page that talks to it."""
