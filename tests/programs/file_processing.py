# Velda documentation, Sharded Jobs: "File Processing".
import os
import sys
import glob

shard_id = int(os.environ['VELDA_SHARD_ID'])
total_shards = int(os.environ['VELDA_TOTAL_SHARDS'])

# Get all files
files = sorted(glob.glob('/data/*.csv'))

# Process only this shard's files
for i in range(shard_id, len(files), total_shards):
    print(f"Processing {files[i]}")
    process_file(files[i])
