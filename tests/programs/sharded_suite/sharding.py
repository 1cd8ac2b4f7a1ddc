# Velda documentation, Sharded Jobs: "Sharded Testing (pytest)", its conftest.py; called otherwise here so that the
# project's own test run does not take it for its own.
import os

def pytest_collection_modifyitems(config, items):
    shard_id = int(os.environ.get('VELDA_SHARD_ID', '0'))
    total_shards = int(os.environ.get('VELDA_TOTAL_SHARDS', '1'))
    # Keep only items that belong to this shard (round-robin by index)
    selected = [item for idx, item in enumerate(items) if idx % total_shards == shard_id]
    items[:] = selected
