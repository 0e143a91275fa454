"""What a checkpoint gives, stage by stage: recorded, and compared with a record or with transformers.

`omni verify` is its command; docs/verify.md tells how it is used. Nothing here is imported before it is needed.
"""
