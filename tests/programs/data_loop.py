# Velda documentation, Sharded Jobs: "Basic Sharding".
import os

shard_id = int(os.environ['VELDA_SHARD_ID'])        # 0, 1, 2, or 3
total_shards = int(os.environ['VELDA_TOTAL_SHARDS']) # 4

# Process only this shard's portion of data
for i in range(shard_id, len(data), total_shards):
    process(data[i])
