# Velda documentation, Sharded Jobs: "Data Parallelism".
import os

shard_id = int(os.environ['VELDA_SHARD_ID'])
total_shards = int(os.environ['VELDA_TOTAL_SHARDS'])
total_records = 1_000_000

# Calculate this shard's range
records_per_shard = total_records // total_shards
start = shard_id * records_per_shard
end = start + records_per_shard if shard_id < total_shards - 1 else total_records

print(f"Shard {shard_id} processing records {start} to {end}")
process_records(start, end)
