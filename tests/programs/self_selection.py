# Sylphx documentation, Distributed Runs: "Shard self-selection".
import os
shard = int(os.environ["SYLPHX_SHARD_INDEX"]) # 0 .. N-1
count = int(os.environ["SYLPHX_SHARD_COUNT"]) # N
symbols = load_universe()
my_symbols = symbols[shard::count] # every Nth symbol, offset by shard
train_and_write(my_symbols, out=f"/cache/scores-{shard}.parquet")
